"""What `configs/metadata.json` says of the bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache

from samreg.errors import UsageError
from samreg.shipped import home


@dataclass(frozen=True)
class Metadata:
    """Who made the bundle, and what it does.

    Attributes:
        name, version: Of bundle, application and model alike.
        task: What it does, a clause.
        description: How it does it, a few sentences.
        authors, copyright: As stated.
        intended_use: What it may be used for, and what not.
    """

    name: str
    version: str
    task: str
    description: str
    authors: str
    copyright: str
    intended_use: str


@cache
def bundle_metadata() -> Metadata:
    """The bundle's metadata, read once.

    Raises:
        UsageError: The file is not installed.

    Example:
        >>> bundle_metadata().name
        'samreg'
    """
    file = home("configs") / "metadata.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"the bundle's metadata is not installed ({file})", "configs/metadata.json", "Install samreg again."
        ) from error
    return Metadata(**{field.name: facts[field.name] for field in fields(Metadata)})
