"""Register the two images."""

from __future__ import annotations

from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from samreg.config import Config
from samreg.workflow import compute


class RegistrationOperator(Operator):
    """Pair the regions and estimate the transform.

    Named inputs:
        inputs: `samreg.workflow.Inputs`.

    Named outputs:
        result: `samreg.result.RegistrationResult`.

    Args:
        config: Everything that decides the result.

    Raises (from `compute`):
        InputRefused: The images cannot be registered.
    """

    def __init__(self, fragment: Fragment, *args: Any, config: Config, **kwargs: Any) -> None:
        self.config = config
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("inputs")
        spec.output("result")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(compute(op_input.receive("inputs"), self.config), "result")
