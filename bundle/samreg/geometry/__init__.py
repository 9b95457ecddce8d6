"""Grids, volumes and interpolation in LPS millimetres."""

from samreg.geometry.grid import Grid, field_scale, finest_spacing_mm, transform_points
from samreg.geometry.sampling import (
    gaussian_smooth,
    grid_points,
    index_points,
    inside,
    resample,
    sample,
    sample_each,
    sample_nearest,
)
from samreg.geometry.volume import SourceSeries, Volume

__all__ = [
    "Grid",
    "SourceSeries",
    "Volume",
    "field_scale",
    "finest_spacing_mm",
    "gaussian_smooth",
    "grid_points",
    "index_points",
    "inside",
    "resample",
    "sample",
    "sample_each",
    "sample_nearest",
    "transform_points",
]
