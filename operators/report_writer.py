"""Write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from samreg.outputs import write_reports


class ReportWriterOperator(Operator):
    """Write `report.json` and `report.html`; the last operator.

    The report shows the warped image and lists the objects, so both writers come before it.

    Named inputs:
        result: `samreg.result.RegistrationResult`.
        warped: From `ImageWriterOperator`.
        objects: From `DicomWriterOperator`.

    Named outputs: none.

    Attributes:
        report: The contents of `report.json` once written, else None.

    Args:
        output_folder: Where to write; that of the other writers.
    """

    def __init__(self, fragment: Fragment, *args: Any, output_folder: str | Path, **kwargs: Any) -> None:
        self.output_folder = Path(output_folder)
        self.report: dict[str, Any] | None = None
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("result")
        spec.input("warped")
        spec.input("objects")

    def start(self) -> None:
        """Make the folder, before anything is computed: one that vanishes later belongs to a run that has ended."""
        self.output_folder.mkdir(parents=True, exist_ok=True)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        objects, notes = op_input.receive("objects")
        self.report = write_reports(
            op_input.receive("result"), op_input.receive("warped"), objects, notes, self.output_folder
        )
