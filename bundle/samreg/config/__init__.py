"""One frozen, validated configuration; its hash stands in every output.

A method is the preset of its name: the values of a configuration are those of its method's file in `configs/presets`,
with the values that were given over them.
"""

from samreg.config.choosing import configured, resolved
from samreg.config.configuration import Config, Precision, TransformChoice
from samreg.config.files import merged, nested, read_values
from samreg.config.presets import preset_file, presets
from samreg.config.series import SeriesConfig, SeriesRule
from samreg.config.settings import Settings
from samreg.config.stages import EstimationConfig, EstimatorsConfig, MatchingConfig, ProposalConfig, QualityConfig

__all__ = [
    "Config",
    "EstimationConfig",
    "EstimatorsConfig",
    "MatchingConfig",
    "Precision",
    "ProposalConfig",
    "QualityConfig",
    "SeriesConfig",
    "SeriesRule",
    "Settings",
    "TransformChoice",
    "configured",
    "merged",
    "nested",
    "preset_file",
    "presets",
    "read_values",
    "resolved",
]
