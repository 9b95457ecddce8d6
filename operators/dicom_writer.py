"""Write the DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import (
    ConditionType,
    ExecutionContext,
    Fragment,
    InputContext,
    Operator,
    OperatorSpec,
    OutputContext,
)

from samreg.outputs import write_dicom


class DicomWriterOperator(Operator):
    """Write REG, Deformable REG and SEG, and read each back.

    A result that failed its quality gate gets SEG alone: a registration object would be used.

    Named inputs:
        result: `samreg.result.RegistrationResult`.

    Named outputs:
        objects: `tuple[dict[str, str], list[str]]`: what was written, by name, with its path in the folder
            (`{"reg": "dicom/reg.dcm"}`), and a sentence for each object left out. Receiver optional.

    Args:
        output_folder: Where to write; made when the application starts, if it is not there. The objects go to its
            sub-folder `dicom`.

    Raises (from `compute`):
        UsageError: There is a sub-folder `dicom`: objects of two results must not stand side by side.
        OutputInvalid: An object does not reproduce the transform when read back. Do not use what was written.
    """

    def __init__(self, fragment: Fragment, *args: Any, output_folder: str | Path, **kwargs: Any) -> None:
        self.output_folder = Path(output_folder)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("result")
        spec.output("objects").condition(ConditionType.NONE)

    def start(self) -> None:
        """Make the folder, before anything is computed: one that vanishes later belongs to a run that has ended."""
        self.output_folder.mkdir(parents=True, exist_ok=True)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(write_dicom(op_input.receive("result"), self.output_folder), "objects")
