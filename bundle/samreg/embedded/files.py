"""The embedded model's file: safetensors with what it is in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from samreg.embedded.network import EmbeddedNetwork, Size
from samreg.errors import UsageError
from samreg.shipped import weights_file
from samreg.whole_files import whole_file

FORMAT = "samreg-embedded-1"


def save_network(network: EmbeddedNetwork, path: str | Path, about: Mapping[str, Any]) -> str:
    """Writes a network.

    Args:
        network: On any device.
        path: The file.
        about: Facts that shall stand in its header, JSON values by name.

    Returns:
        SHA-256 of the file.
    """
    header = {"format": FORMAT, "size": json.dumps(asdict(network.size)), "about": json.dumps(dict(about))}
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in network.state_dict().items()}
    path = Path(path)
    with whole_file(path) as part:
        save_file(tensors, part, header)
        part.chmod(0o644)  # safetensors writes for the owner alone
    return sha256(path.read_bytes()).hexdigest()


def load_network(path: str | Path) -> tuple[EmbeddedNetwork, dict[str, Any], str]:
    """The network of a file, in eval mode on the CPU, the facts in its header, and the file's SHA-256.

    Raises:
        UsageError: It cannot be read, or holds something else.
    """
    path = Path(path)
    expected = "the embedded model's .safetensors file"
    other = "Install samreg anew." if path == weights_file() else "For a SAM model add --encoder sam."
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UsageError(
                    f"'{path.name}' is of format {header.get('format')!r}", f"{expected}, {FORMAT!r}", other
                )
            network = EmbeddedNetwork(Size(**{k: _tuple(v) for k, v in json.loads(header["size"]).items()}))
            about = dict(json.loads(header["about"]))
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            digest = sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError, LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UsageError(f"'{path}' cannot be read ({type(error).__name__})", expected, other) from error
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise UsageError(f"'{path.name}' has values that are not finite", expected)
    return network.eval().requires_grad_(False), about, digest


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
