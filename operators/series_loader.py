"""Read the fixed and the moving series."""

from __future__ import annotations

from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from samreg.workflow import Job, load


class SeriesLoaderOperator(Operator):
    """Find, check and read the two series of a job.

    Named inputs: none.

    Named outputs:
        inputs: `samreg.workflow.Inputs`.

    Args:
        job: Where the series lie and how they are chosen.

    Raises (from `compute`):
        InputRefused: The input is not safe to register.
    """

    def __init__(self, fragment: Fragment, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("inputs")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(load(self.job), "inputs")
