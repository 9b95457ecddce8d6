"""Prompted correspondence: from a point, a box or a region to its counterpart in another image."""

from samreg.prompted.located import Located
from samreg.prompted.prompts import Box, GivenRoi, Point, Prompt

__all__ = ["Box", "GivenRoi", "Located", "Point", "Prompt"]
