"""The device to compute on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from samreg.errors import UsageError


def find_device(name: str) -> str:
    """The device of this name; "auto" is a GPU where there is one.

    Raises:
        UsageError: There is no such device on this machine.

    Example:
        >>> find_device("cpu")
        'cpu'
    """
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device '{name}' is not there", "auto, cpu, or cuda[:N] of this machine") from error
    return name


def out_of_memory(load: str) -> UsageError:
    """The error that tells a user what to do where the device's memory does not hold this."""
    return UsageError(f"the device's memory does not hold {load}", reason="out-of-memory")


@contextmanager
def within_memory() -> Iterator[None]:
    """A block that is refused where the device's memory is full.

    Raises:
        UsageError: It is.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory("the images and the model") from error
