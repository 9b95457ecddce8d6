"""The configuration of a registration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from samreg.config.files import merged, read_values
from samreg.config.presets import DEFAULT_METHOD, preset_values
from samreg.config.series import SeriesConfig
from samreg.config.settings import Amount, Count, Settings, Whole, spelled_out, without_nulls
from samreg.config.stages import EstimationConfig, EstimatorsConfig, MatchingConfig, ProposalConfig, QualityConfig
from samreg.registry import METHODS

Method = Annotated[str, Field(json_schema_extra={"enum": list(METHODS)})]
TransformChoice = Literal["rigid", "affine", "deformable"]
Precision = Literal["auto", "float64", "float32", "bfloat16"]


class Config(Settings):
    """Everything that decides a result, apart from the images.

    The values are those of the method's preset (`configs/presets`), with the values that are given over them. A given
    section gives what was named when it was made, and stays open in the rest; a section may be a mapping.

    Attributes:
        method: Composition of the stages; the preset of the same name has its values.
        transform: The finest transform asked for.
        encoder: Features that regions are matched by.
        weights: Of a model: file or folder; None with the embedded encoder: the weights that come with the library.
        variant: Row of the SAM family; None: told from the weights.
        precision: Of a model's arithmetic; "auto" is bfloat16 on a GPU; on a CPU float64 for the embedded model, whose
            regions are then the same on every processor, and float32 for others.
        device: auto, cpu, cuda or cuda:N.
        threads: At most so many on a CPU; None: as many as there are processors for this process.
        cache, cache_gb: Folder that keeps what a model makes of a slice, and its size in 10⁹ bytes.
        as_files: Write everything but the DICOM objects. Series whose identifiers no object could refer to are then
            registered too.
        seed: Of the random choices.

    Raises:
        UsageError: An unknown key, a wrong type, or a value out of range.

    Example:
        >>> Config(method="samreg", matching={"max_pairs": 9}).matching.slice_pairing
        'index'
    """

    method: Method = DEFAULT_METHOD
    transform: TransformChoice = "deformable"
    encoder: str = "embedded"
    weights: str | None = None
    variant: str | None = None
    precision: Precision = "auto"
    device: str = "auto"
    threads: Count | None = None
    cache: str | None = None
    cache_gb: Amount = 20.0
    as_files: bool = False
    seed: Whole = 0
    proposals: ProposalConfig = Field(default_factory=ProposalConfig)
    matching: MatchingConfig = Field(default_factory=MatchingConfig)
    estimators: EstimatorsConfig = Field(default_factory=EstimatorsConfig)
    estimation: EstimationConfig = Field(default_factory=EstimationConfig)
    quality: QualityConfig = Field(default_factory=QualityConfig)
    series: SeriesConfig = Field(default_factory=SeriesConfig)

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _over_its_preset(cls, values: Any, made: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping):
            return made(values)
        given = spelled_out(cls, values)
        method = given.get("method", cls.model_fields["method"].default)
        config = made(merged(preset_values(method), given) if isinstance(method, str) else given)
        config._given = deepcopy(given)
        return config

    @property
    def given(self) -> dict[str, Any]:
        """The values, nested, that were given when this was made; the others are those of the method's preset."""
        return deepcopy(self._given)

    def __eq__(self, other: object) -> bool:
        # By the values alone: a default may be given or not.
        return isinstance(other, Config) and self.as_dict() == other.as_dict()

    @property
    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of what decides the result: not device, threads, paths, files and series."""
        aside = ("device", "threads", "weights", "cache", "cache_gb", "as_files", "series")
        values = {k: v for k, v in self.as_dict().items() if k not in aside}
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    @staticmethod
    def load(path: str | Path, base: Config | None = None) -> Config:
        """A configuration from a YAML or JSON file; what it leaves out stays as in `base`.

        A null is not given, unless it is a value of its key.

        Raises:
            UsageError: A file that cannot be read, an unknown key, a wrong type, or a value out of range.
        """
        return (base or Config()).with_values(without_nulls(Config, read_values(path)))
