"""Register the two images."""

from __future__ import annotations

import logging
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
from samreg.metadata import bundle_metadata
from samreg.run import compute
from samreg.session import Session

log = logging.getLogger("samreg.operators")


class RegistrationOperator(Operator):
    """Pair the regions and estimate the transform.

    A result that failed its quality gate is emitted like any other: see `result.quality.status`.

    Resources: 2 CPU cores, no GPU; where there is one, `device` "auto" takes it. Time and memory grow with the voxels:
    `docs/performance.md` has what was measured, and `docs/operate.md` the limits to give. The SDK takes another 0.6 GB.

    Named inputs:
        inputs: `samreg.sources.Inputs`, the two images.

    Named outputs:
        result: `samreg.result.RegistrationResult`. Receiver optional.

    Args:
        config: Everything that decides the result; default `Config()`.
        session: In place of a configuration: what registers, with models that other operators may have loaded.

    Raises (from `compute`):
        UsageError: The configuration asks for something that is not there, or for more memory than there is.
        InputRefused: The images cannot be registered.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        config: Config | None = None,
        session: Session | None = None,
        **kwargs: Any,
    ) -> None:
        self.session = session or Session(config)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("inputs")
        spec.output("result").condition(ConditionType.NONE)

    def start(self) -> None:
        """Say what will register."""
        about = bundle_metadata()
        log.info("bundle %s %s: %s", about.name, about.version, about.task)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        op_output.emit(compute(op_input.receive("inputs"), self.session), "result")
