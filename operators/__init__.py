"""MONAI Deploy operators: each receives, makes one library call, and emits.

Each can be used without the others (see `docs/operators.md`).
"""

from operators.dicom_writer import DicomWriterOperator
from operators.image_writer import ImageWriterOperator
from operators.registration import RegistrationOperator
from operators.report_writer import ReportWriterOperator
from operators.selected_series_loader import SelectedSeriesLoaderOperator
from operators.series_loader import SeriesLoaderOperator

__all__ = [
    "DicomWriterOperator",
    "ImageWriterOperator",
    "RegistrationOperator",
    "ReportWriterOperator",
    "SelectedSeriesLoaderOperator",
    "SeriesLoaderOperator",
]
