"""An application of your own: the SDK's loader and selector, then registration and writers of this project.

    python -m app.examples.selected_series -i INPUT -o OUTPUT

INPUT holds the two series anywhere below it; `RULES` says which is which. OUTPUT holds all results, or nothing. Ends
with the exit codes of the `samreg` command.
"""

import json
import sys
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator

from operators import (
    DicomWriterOperator,
    ImageWriterOperator,
    RegistrationOperator,
    ReportWriterOperator,
    SelectedSeriesLoaderOperator,
)
from samreg.config import Config
from samreg.doors import ending_the_process
from samreg.errors import OutputInvalid
from samreg.output_folder import OutputFolder
from samreg.run import exit_code

# The selector's own language: regular expressions in DICOM attributes of study and series.
RULES = {
    "selections": [
        {"name": "fixed", "conditions": {"Modality": "(CT|MR)", "SeriesDescription": "fixed"}},
        {"name": "moving", "conditions": {"Modality": "(CT|MR)", "SeriesDescription": "moving"}},
    ]
}


class SelectedSeriesApplication(Application):
    """Loader → selector → selected series loader → registration → image, DICOM and report writers.

    Args:
        input_folder: With the series.
        output_folder: Where the writers write.
    """

    def __init__(self, input_folder: Path, output_folder: Path) -> None:
        self.input_folder = input_folder
        self.output_folder = output_folder
        # The arguments are those of `main`; Holoscan would parse them again.
        super().__init__([sys.executable, "app"])

    def compose(self) -> None:
        out = self.output_folder
        loader = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=self.input_folder, name="loader")
        # With all that match: of several the selector would take the first, and nobody would know.
        selector = DICOMSeriesSelectorOperator(self, rules=json.dumps(RULES), all_matched=True, name="selector")
        selected = SelectedSeriesLoaderOperator(self, fixed="fixed", moving="moving", name="selected")
        registration = RegistrationOperator(self, config=Config(), name="registration")
        images = ImageWriterOperator(self, output_folder=out, name="images")
        dicom = DicomWriterOperator(self, output_folder=out, name="dicom")
        self.report_writer = report = ReportWriterOperator(self, output_folder=out, name="report")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, selected, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(selected, registration, {("inputs", "inputs")})
        for writer in (images, dicom, report):
            self.add_flow(registration, writer, {("result", "result")})
        self.add_flow(images, report, {("warped", "warped")})
        self.add_flow(dicom, report, {("objects", "objects")})


def run(input_folder: Path, output_folder: Path) -> dict[str, Any]:
    """Run the application; returns the contents of `report.json`."""
    with OutputFolder(output_folder, [input_folder]) as output:
        application = SelectedSeriesApplication(input_folder, output.folder)
        application.run()
        report = application.report_writer.report
        if report is None:
            # Holoscan ends without an error when an operator never ran.
            raise OutputInvalid("the operators ended without a report", "one report", "See the log.")
        output.commit()
    return report


def main() -> int:
    """Run on the folders of the command line; returns the exit code."""
    with ending_the_process():
        context = Application.init_app_context(sys.argv)
        return exit_code(run(Path(context.input_path), Path(context.output_path)))


if __name__ == "__main__":
    raise SystemExit(main())
