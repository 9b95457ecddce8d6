"""Read the fixed and the moving series."""

from __future__ import annotations

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

from samreg.workflow import Job, load


class SeriesLoaderOperator(Operator):
    """Find, check and read the two series of a job.

    The first operator of an application: give it `CountCondition(self, 1)`, or it never ends.

    Named inputs: none.

    Named outputs:
        inputs: `samreg.workflow.Inputs`, the two images. Receiver optional.

    Args:
        job: Where the series lie and how they are chosen. Its `out` is not used here.

    Raises (from `compute`):
        UsageError: A path or a configuration that cannot be followed.
        InputRefused: The input is not safe to register.
    """

    def __init__(self, fragment: Fragment, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("inputs").condition(ConditionType.NONE)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(load(self.job), "inputs")
