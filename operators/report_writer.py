"""Write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from samreg.outputs import write_reports


class ReportWriterOperator(Operator):
    """Write `report.json` and `report.html`; the last operator.

    Named inputs:
        result: `samreg.result.RegistrationResult`.
        warped: From `ImageWriterOperator`.
        objects: From `DicomWriterOperator`.

    Named outputs: none.

    Attributes:
        report: The contents of `report.json` once written, else None.

    Args:
        folder: Where to write.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, **kwargs: Any) -> None:
        self.folder = folder
        self.report: dict[str, Any] | None = None
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("result")
        spec.input("warped")
        spec.input("objects")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        (warped,) = op_input.receive("warped")
        objects, notes = op_input.receive("objects")
        self.report = write_reports(op_input.receive("result"), warped, objects, notes, self.folder)
