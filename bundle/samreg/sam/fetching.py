"""Weights from where they are published. The only part of samreg that downloads, and only when asked to."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from samreg.errors import InputRefused, SamregError, UsageError
from samreg.sam.family import Variant
from samreg.sam.identify import MARKER
from samreg.whole_files import whole_file, whole_folder

OnProgress = Callable[[str, float], None]  # called with the file's name and the share done, 0..1

_SCHEMES = ("https", "file")
_BLOCK = 1 << 20
_TIMEOUT_S = 60
_HUB_FILES = ("config.json", "model.safetensors")


class Fetched(NamedTuple):
    """What was downloaded.

    Attributes:
        path: File or folder, for `--weights`.
        sha256: Of the file with the tensors.
        checked: It is the published one; False where none is known.
    """

    path: Path
    sha256: str
    checked: bool


def fetch(variant: Variant, folder: Path, *, url: str | None = None, on_progress: OnProgress | None = None) -> Fetched:
    """Download the weights of a row of the family; they are there whole and checked, or not at all.

    Args:
        variant: The authors' checkpoint is taken where there is one, else the Hugging Face repository.
        folder: Where the file, or a folder of the repository's name, shall stand; made if absent.
        url: Of the file at another place; for a repository, of the folder that holds its files.
        on_progress: Called with the name of the file and the share done.

    Raises:
        UsageError: They have to be got by hand, are there already, or the address is not https or file.
        InputRefused: What came has another hash than what was published; it is deleted.
        SamregError: The download failed.
    """
    if variant.page and url is None:
        raise UsageError(
            f"the weights of {variant.name} cannot be fetched",
            next_step=f"Get them from {variant.page}, and give the file or folder with --weights.",
            reason="weights-by-hand",
        )
    address = url or variant.source
    if not variant.file and url is None:
        address += "/resolve/main"
    if _scheme(address) not in _SCHEMES:
        raise UsageError(f"the address is '{address}'", "an address that starts with https:// or file://")
    target = folder / (variant.file or variant.hub.rpartition("/")[2])
    if target.exists():
        raise UsageError(f"'{target}' is there already", "a new file", "Use it, or remove it and fetch again.")
    with ExitStack() as done:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = done.enter_context(whole_file(target) if variant.file else whole_folder(target))
        except OSError as error:
            raise UsageError(
                f"the folder '{folder}' cannot be written ({error.strerror})", "a folder you may write to"
            ) from error
        digest = _download_all(address, variant, part, on_progress or (lambda name, share: None))
        expected = variant.sha256 if variant.file else variant.hub_sha256
        if expected and digest != expected:
            raise _changed(variant, digest, expected)
    return Fetched(target, digest, bool(expected))


def _download_all(address: str, variant: Variant, part: Path, report: OnProgress) -> str:
    """The authors' file, or the files of the repository; returns the SHA-256 of the one with the tensors."""
    if variant.file:
        return _download(address, part, report)
    for name in _HUB_FILES:
        digest = _download(f"{address.rstrip('/')}/{name}", part / name, report)
    (part / MARKER).write_text(json.dumps({"variant": variant.name}) + "\n", encoding="utf-8")
    return digest


def _download(address: str, file: Path, report: OnProgress) -> str:
    """One file; returns its SHA-256."""
    digest = sha256()
    got = 0
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer, file.open("wb") as out:
            if _scheme(answer.geturl()) not in _SCHEMES:
                raise SamregError(
                    f"the address {address} leads to one without encryption", "https", reason="download-failed"
                )
            size = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(_BLOCK):
                out.write(block)
                digest.update(block)
                got += len(block)
                report(file.name, got / size if size else 0.0)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise _failed(address, str(getattr(error, "reason", None) or error)) from error
    if size and got != size:
        raise _failed(address, f"{got} of {size} bytes came")
    return digest.hexdigest()


def _scheme(address: str) -> str:
    try:
        return urlsplit(address).scheme
    except ValueError:
        return ""


def _failed(address: str, why: str) -> SamregError:
    return SamregError(f"the download of {address} failed ({why})", reason="download-failed")


def _changed(variant: Variant, digest: str, expected: str) -> InputRefused:
    return InputRefused(
        f"the download for {variant.name} has the SHA-256 {digest}",
        f"{expected}, which was published",
        "The file was deleted. Fetch from another address, or ask its authors.",
        reason="weights-changed",
    )
