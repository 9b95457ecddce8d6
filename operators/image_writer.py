"""Write the transforms and images."""

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

from samreg.outputs import write_images


class ImageWriterOperator(Operator):
    """Write the ITK transforms, the warped image, the pairs and their label maps.

    Named inputs:
        result: `samreg.result.RegistrationResult`.

    Named outputs:
        warped: `numpy.ndarray`, the moving image on the fixed grid, float32 [i, j, k]. Receiver optional.

    Args:
        output_folder: Where to write; made when the application starts, if it is not there. Files of an earlier
            result are replaced.
    """

    def __init__(self, fragment: Fragment, *args: Any, output_folder: str | Path, **kwargs: Any) -> None:
        self.output_folder = Path(output_folder)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("result")
        spec.output("warped").condition(ConditionType.NONE)

    def start(self) -> None:
        """Make the folder, before anything is computed: one that vanishes later belongs to a run that has ended."""
        self.output_folder.mkdir(parents=True, exist_ok=True)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        # As it is: Holoscan would pass an array as a tensor of its own.
        op_output.emit(write_images(op_input.receive("result"), self.output_folder), "warped", "PyObject")
