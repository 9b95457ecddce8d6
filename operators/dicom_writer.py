"""Write the DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from samreg.outputs import write_dicom


class DicomWriterOperator(Operator):
    """Write REG, Deformable REG and SEG, and read each back.

    Named inputs:
        result: `samreg.result.RegistrationResult`.

    Named outputs:
        objects: What was written, by name, and a sentence for each object left out.

    Args:
        folder: Where to write; the objects go to its sub-folder `dicom`.

    Raises (from `compute`):
        OutputInvalid: An object does not reproduce the transform when read back.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, **kwargs: Any) -> None:
        self.folder = folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("result")
        spec.output("objects")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(write_dicom(op_input.receive("result"), self.folder), "objects")
