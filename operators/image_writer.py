"""Write the transforms and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from samreg.outputs import write_images


class ImageWriterOperator(Operator):
    """Write the ITK transforms, the warped image, the pairs and their label maps.

    Named inputs:
        result: `samreg.result.RegistrationResult`.

    Named outputs:
        warped: The moving image on the fixed grid, float32 [i, j, k].

    Args:
        folder: Where to write.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, **kwargs: Any) -> None:
        self.folder = folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("result")
        spec.output("warped")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        # In a tuple: Holoscan would pass a bare array as a tensor of its own.
        op_output.emit((write_images(op_input.receive("result"), self.folder),), "warped")
