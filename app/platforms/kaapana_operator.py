"""The operator of a Kaapana workflow that runs the image. Copy it beside the DAG, and set the registry."""

from datetime import timedelta
from typing import Any

from kaapana.operators.KaapanaBaseOperator import KaapanaBaseOperator

IMAGE = "samreg-map:0.1.0"


class SamregOperator(KaapanaBaseOperator):
    """Registers the two series of each item of the batch, or of the batch.

    Args:
        dag: Of the workflow.
        registry: Where the image is, with a slash at its end.
        settings: JSON, such as {"transform": "rigid"}.
    """

    def __init__(
        self,
        dag: Any,
        registry: str,
        settings: str = "{}",
        name: str = "samreg",
        execution_timeout: timedelta = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dag=dag,
            name=name,
            image=f"{registry}{IMAGE}",
            image_pull_secrets=["registry-secret"],
            env_vars={"SAMREG_SETTINGS": settings, "SAMREG_LOG_FORMAT": "json"},
            execution_timeout=execution_timeout,
            ram_mem_mb=4000,
            **kwargs,
        )
