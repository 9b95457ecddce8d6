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

from samreg.config import Config
from samreg.sources import Sources, load


class SeriesLoaderOperator(Operator):
    """Find, check and read the fixed and the moving series.

    The first operator of an application: give it `CountCondition(self, 1)`, or it never ends.

    Named inputs: none.

    Named outputs:
        inputs: `samreg.sources.Inputs`, the two images. Receiver optional.

    Args:
        sources: Where the series lie.
        config: Says which series is what (its `series`); default `Config()`.

    Raises (from `compute`):
        UsageError: A path or a configuration that cannot be followed.
        InputRefused: The input is not safe to register.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, sources: Sources, config: Config | None = None, **kwargs: Any
    ) -> None:
        self.sources = sources
        self.config = config or Config()
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("inputs").condition(ConditionType.NONE)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(load(self.sources, self.config), "inputs")
