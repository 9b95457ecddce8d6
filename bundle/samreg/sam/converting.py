"""From an original checkpoint to a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from samreg.errors import OutputInvalid, UsageError
from samreg.sam.identify import MARKER
from samreg.sam.loading import Loaded, load_sam
from samreg.whole_files import whole_folder


def convert(source: Path, out: Path, variant: str | None = None) -> Loaded:
    """Write weights as config.json, model.safetensors and samreg.json; the folder is whole or absent.

    Args:
        source: What `load_sam` reads.
        out: Folder that does not exist yet.
        variant: Row of the family; None: told from the source.

    Returns:
        What was written, read back.

    Raises:
        UsageError: The source cannot be used, or `out` exists or cannot be written.
        OutputInvalid: What was written does not read back as it was.
    """
    if out.exists():
        raise UsageError(f"'{out}' exists", "a folder that does not exist", "Give another one, or remove it.")
    loaded = load_sam(source, variant)
    with ExitStack() as done:
        try:
            out.absolute().parent.mkdir(parents=True, exist_ok=True)
            part = done.enter_context(whole_folder(out))
        except OSError as error:
            raise UsageError(
                f"the folder '{out}' cannot be written ({error.strerror})", "a place you may write to"
            ) from error
        _write(loaded, part)
        again = load_sam(part)
        if again.variant != loaded.variant or not _same(loaded.model, again.model):
            raise OutputInvalid(f"'{out.name}' does not read back as it was written", "the same tensors")
    return again


def _write(loaded: Loaded, folder: Path) -> None:
    from safetensors.torch import save_file

    tied = getattr(loaded.model, "_tied_weights_keys", None) or {}
    tensors = {n: t.contiguous() for n, t in loaded.model.state_dict().items() if n not in tied}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    values = loaded.model.config.to_dict()
    if loaded.variant.architecture == "mobile_sam":
        values = {"model_type": "mobile_sam", "image_size": loaded.variant.image_size}
    _write_json(values, folder / "config.json")
    _write_json({"variant": loaded.variant.name}, folder / MARKER)
    shutil.copymode(folder / MARKER, folder / "model.safetensors")  # which safetensors makes for its owner alone


def _write_json(values: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _same(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
