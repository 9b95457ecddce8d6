"""DICOM objects: Spatial Registration, Deformable Spatial Registration, Segmentation, and their checks."""

from samreg.dicom_out.objects import DicomObjects, write_objects
from samreg.dicom_out.readback import read_deformable, read_registration, verify_registration, verify_segmentation
from samreg.dicom_out.validate import Finding, validate

__all__ = [
    "DicomObjects",
    "Finding",
    "read_deformable",
    "read_registration",
    "validate",
    "verify_registration",
    "verify_segmentation",
    "write_objects",
]
