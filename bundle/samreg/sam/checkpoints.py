"""Tensors from local files, without running code in them and without telling paths."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samreg.errors import UsageError

SINGLE = ("model.safetensors", "pytorch_model.bin")
SHARDS = "model.safetensors.index.json"


def weights_files(path: Path) -> list[Path]:
    """The files that hold the tensors of a checkpoint: itself, or those of its folder.

    Raises:
        UsageError: There are none.
    """
    if not path.exists():
        raise refused(path, "does not exist")
    if path.is_file():
        return [path]
    for name in SINGLE:
        if (path / name).is_file():
            return [path / name]
    if (path / SHARDS).is_file():
        return _shards(path)
    raise refused(path, "holds neither model.safetensors nor pytorch_model.bin")


def read_tensors(files: list[Path]) -> dict[str, Tensor]:
    """The tensors of these files together, by name, on the CPU.

    Raises:
        UsageError: A file is damaged, a pickled model, or no table of tensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _read(file)
    return tensors


def hash_of(files: list[Path]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        UsageError: It cannot be read as such.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refused(file.parent, f"has no readable {file.name}") from error
    if not isinstance(values, dict):
        raise refused(file.parent, f"has a {file.name} without keys")
    return values


def refused(path: Path, what: str) -> UsageError:
    """The one error about weights; it names the file or folder without its path."""
    return UsageError(f"the weights '{path.name}' {what}", reason="weights-unreadable")


def _shards(folder: Path) -> list[Path]:
    table = read_json(folder / SHARDS).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    files = [folder / name for name in names if Path(name).name == name]
    if not files or len(files) < len(names) or not all(file.is_file() for file in files):
        raise refused(folder, f"lacks files that {SHARDS} names")
    return files


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            tensors: Any = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused(file, "is damaged, or a pickled model, which could run code") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise refused(file, f"cannot be read ({type(error).__name__})") from error
    if isinstance(tensors, Mapping) and isinstance(tensors.get("model"), Mapping):
        tensors = tensors["model"]
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise refused(file, "does not hold a table of tensors")
    return dict(tensors)
