"""`python -m samreg.training OUT --minutes 60`: trains where MONAI is not installed."""

from __future__ import annotations

import argparse
import logging
from dataclasses import fields
from pathlib import Path

from samreg.training.doors import train_or_exit
from samreg.training.loop import Recipe

_CHOICES = {field.name: field for field in fields(Recipe) if field.name != "sizes"}


def main(arguments: list[str] | None = None) -> None:
    """Trains with a recipe given by options."""
    parser = argparse.ArgumentParser(prog="python -m samreg.training", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the results; goes on where it stopped")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    for name, field in _CHOICES.items():
        kind = {"minutes": float}.get(name) or type(field.default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default)
    given = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    out, device = given.pop("out"), given.pop("device")
    train_or_exit(out, device, **given)


if __name__ == "__main__":
    main()
