"""What `samreg weights` does. Only `verify` and `convert` load a model, and with it torch."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from samreg.cli import say
from samreg.cli_progress import ProgressLine
from samreg.errors import InputRefused, UsageError
from samreg.sam.family import FAMILY, Variant


def list(args: Namespace) -> int:  # noqa: A001
    """Print the rows of the family."""
    rows = [row_of(variant) for variant in FAMILY.values()]
    if args.json:
        say(rows)
        return 0
    keys = ("name", "architecture", "input", "licence", "sha256", "source")
    table = [keys, *([str(row[key])[:12] if key == "sha256" else str(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[n]) for line in table) for n in range(len(keys))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    lines += ["", *(f"{row['name']}: {row['note']}" for row in rows if row["note"])]
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n")
    return 0


def row_of(variant: Variant) -> dict[str, Any]:
    """A row of the family for tables and machines."""
    return {
        "name": variant.name,
        "summary": variant.summary,
        "architecture": variant.architecture,
        "input": variant.preprocessing,
        "licence": variant.licence,
        "file": variant.file,
        "repository": variant.hub,
        "sha256": variant.sha256 or variant.hub_sha256,
        "source": variant.source,
        "fetched": not variant.page,
        "note": variant.note,
    }


def verify(args: Namespace) -> int:
    """Load weights and compare their hash with the published one; what they claim to be must hold."""
    from samreg.sam import checkpoints, identify
    from samreg.sam.loading import load_sam

    if not args.path.exists():
        raise UsageError(f"the weights '{args.path}' do not exist", reason="weights-missing")
    try:
        digest = checkpoints.hash_of(checkpoints.weights_files(args.path))
        claimed, by = identify.claimed(args.path, digest, args.variant)
        if claimed is not None and by in ("given", "name") and not _may_be(claimed, args.path.is_dir(), digest):
            raise InputRefused(
                f"the weights '{args.path.name}' have the SHA-256 {digest}",
                f"{' or '.join(claimed.hashes)}, published for {claimed.name}",
                reason="weights-changed",
            )
        loaded = load_sam(args.path, args.variant)
    except UsageError as error:
        # Here the weights are what is examined, not an argument beside it.
        raise InputRefused(error.got, error.expected, error.next_step, reason=error.reason) from error
    variant = loaded.variant
    facts = {
        "variant": variant.name,
        "architecture": variant.architecture,
        "input": variant.preprocessing,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "sha256": digest,
        "hash": "published" if digest in variant.hashes else "unknown",
        "licence": variant.licence,
        "note": variant.note,
    }
    if args.json:
        say(facts)
    else:
        sys.stdout.write("".join(f"{key + ':':<14}{value}\n" for key, value in facts.items() if value != ""))
    return 0


def convert(args: Namespace) -> int:
    """Write an original checkpoint as a Hugging Face folder."""
    from samreg.sam.converting import convert as convert_weights

    written = convert_weights(args.source, args.out, args.variant)
    sys.stdout.write(f"{args.out}: {written.variant.name}, SHA-256 {written.weights_hash}\n")
    return 0


def fetch(args: Namespace) -> int:
    """Download the weights of a row, check them, and say where they are."""
    from samreg.sam.fetching import fetch as fetch_weights

    line = None if args.quiet else ProgressLine()
    try:
        got = fetch_weights(FAMILY[args.name], args.out, url=args.url, on_progress=line)
    finally:
        if line:
            line.close()
    said = "as published" if got.checked else "not checked: none is known of what was published"
    sys.stdout.write(f"{got.path}\nSHA-256 {got.sha256} ({said})\n")
    return 0


def _may_be(variant: Variant, is_folder: bool, digest: str) -> bool:
    """Whether the hash is a published one, or none was published for this kind of file."""
    known = variant.hub_sha256 if is_folder else variant.sha256
    return not known or digest in variant.hashes
