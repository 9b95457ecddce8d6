"""Image registration by paired regions of interest.

    import samreg
    result = samreg.register("fixed/", "moving/")
    result.transform.map_points(points_lps_mm)

An independent implementation of SAMReg (Huang et al., arXiv 2405.10879); not a cleared medical device.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from samreg.threads import prepare

if TYPE_CHECKING:
    from samreg.config import Config, configured
    from samreg.constraints.inputs import ConstraintInputs
    from samreg.session import Session, register

# Silent until the application that uses the library sets up logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Before anything that loads torch.
prepare()

__version__ = "0.1.0"
__all__ = ["Config", "ConstraintInputs", "Session", "__version__", "configured", "register"]


_HOMES = {
    "Config": "samreg.config",
    "ConstraintInputs": "samreg.constraints.inputs",
    "configured": "samreg.config",
    "Session": "samreg.session",
    "register": "samreg.session",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `samreg --help` answers without torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'samreg' has no attribute {name!r}")
