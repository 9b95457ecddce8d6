"""Wiring of the operators."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application

from operators import (
    DicomWriterOperator,
    ImageWriterOperator,
    RegistrationOperator,
    ReportWriterOperator,
    SeriesLoaderOperator,
)
from samreg.session import Session
from samreg.sources import Sources


class RegistrationApplication(Application):
    """Series loader → registration → image, DICOM and report writers.

    Args:
        sources: What to register.
        session: What they are registered with.
        folder: Where the writers write; the caller puts it in place when it is whole.
    """

    def __init__(self, sources: Sources, session: Session, folder: Path) -> None:
        self.sources = sources
        self.session = session
        self.folder = folder
        self.report_writer: ReportWriterOperator | None = None
        # The arguments are the entry point's; Holoscan would parse them again.
        super().__init__([sys.executable, "app"])

    def compose(self) -> None:
        loader = SeriesLoaderOperator(
            self, CountCondition(self, 1), sources=self.sources, config=self.session.config, name="series_loader"
        )
        registration = RegistrationOperator(self, session=self.session, name="registration")
        images = ImageWriterOperator(self, output_folder=self.folder, name="image_writer")
        dicom = DicomWriterOperator(self, output_folder=self.folder, name="dicom_writer")
        self.report_writer = report = ReportWriterOperator(self, output_folder=self.folder, name="report_writer")
        self.add_flow(loader, registration, {("inputs", "inputs")})
        self.add_flow(registration, images, {("result", "result")})
        self.add_flow(registration, dicom, {("result", "result")})
        self.add_flow(registration, report, {("result", "result")})
        self.add_flow(images, report, {("warped", "warped")})
        self.add_flow(dicom, report, {("objects", "objects")})

    @property
    def report(self) -> dict[str, Any] | None:
        """The contents of `report.json`, or None if it was not written."""
        return self.report_writer.report if self.report_writer else None
