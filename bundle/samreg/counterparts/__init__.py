"""The counterpart of a place: from a point, a box or a region of one image to the same anatomy in the other."""

from samreg.counterparts.located import Located
from samreg.counterparts.prompts import Box, GivenRoi, Point, Prompt

__all__ = ["Box", "GivenRoi", "Located", "Point", "Prompt"]
