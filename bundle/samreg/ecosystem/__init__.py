"""Images and transforms of other packages: taken as input, and given back.

None of these packages is imported unless an object comes from it, or is asked for.
"""

from samreg.ecosystem.exchange import grid_for, image_as, read_object, transform_as
from samreg.ecosystem.packages import PACKAGES, Package, find_package, package_of

__all__ = [
    "PACKAGES",
    "Package",
    "find_package",
    "grid_for",
    "image_as",
    "package_of",
    "read_object",
    "transform_as",
]
