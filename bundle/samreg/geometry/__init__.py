"""Grids, volumes and interpolation in LPS millimetres."""

from samreg.geometry.grid import Grid, transform_points
from samreg.geometry.sampling import gaussian_smooth, grid_points, index_points, inside, resample, sample, sample_each
from samreg.geometry.volume import SourceSeries, Volume

__all__ = [
    "Grid",
    "SourceSeries",
    "Volume",
    "gaussian_smooth",
    "grid_points",
    "index_points",
    "inside",
    "resample",
    "sample",
    "sample_each",
    "transform_points",
]
