"""The counterpart of a place: from a prompt in the fixed image to the region that it means in the moving one."""

from samreg.counterparts import Box, GivenRoi, Located, Point, Prompt
from samreg.session import locate

__all__ = ["Box", "GivenRoi", "Located", "Point", "Prompt", "locate"]
