"""Phantoms: pairs of images of an analytic anatomy with a known transform, and DICOM series of them.

    from samreg import phantoms
    phantom = phantoms.pair("deformable", peak_mm=12, contrast="inverted")
    phantom.errors_mm(found).mean()

No patient data: every voxel comes from a formula and a seed.
"""

from samreg.phantoms.anatomy import Anatomy, Contrast, Organ
from samreg.phantoms.dicom import Patient, write_dicom_series, write_dicom_study
from samreg.phantoms.pairs import GridName, Phantom, PhantomKind, grid, pair

__all__ = [
    "Anatomy",
    "Contrast",
    "GridName",
    "Organ",
    "Patient",
    "Phantom",
    "PhantomKind",
    "grid",
    "pair",
    "write_dicom_series",
    "write_dicom_study",
]
