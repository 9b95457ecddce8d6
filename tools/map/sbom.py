"""What an image of the application consists of, as a CycloneDX document on stdout.

python tools/map/sbom.py samreg-map:0.1.0
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any
from urllib.parse import quote

PYTHON = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted({(d.metadata["Name"], d.version) for d in distributions()})))
"""
DEBIAN = ["dpkg-query", "-W", "-f", "${Package}\\t${Version}\\t${Architecture}\\n"]


def document(image: str) -> dict[str, Any]:
    """The Python packages and those of the distribution that an image holds.

    Args:
        image: "name:version".

    Returns:
        A CycloneDX 1.6 document; of the same image always the same.
    """
    name, _, version = image.rpartition(":")
    distribution, _, _ = _inside(image, ["sh", "-c", '. /etc/os-release; echo "$ID"']).partition("\n")
    packages = [
        _component(package, release, f"pypi/{package.lower().replace('_', '-')}")
        for package, release in json.loads(_inside(image, ["python3", "-c", PYTHON]))
    ]
    for line in _inside(image, DEBIAN).splitlines():
        package, release, architecture = line.split("\t")
        packages.append(_component(package, release, f"deb/{distribution}/{package}", f"?arch={architecture}"))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": packages,
    }


def _component(name: str, version: str, place: str, qualifiers: str = "") -> dict[str, str]:
    url = f"pkg:{place}@{quote(version, safe=':')}{qualifiers}"
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def _inside(image: str, command: list[str]) -> str:
    """What a command prints in the image."""
    podman = ["podman", "--runtime", "runc", "run", "--rm", "--network", "none", "--entrypoint", command[0]]
    limits = ["--ulimit", "nofile=8192:8192", "--ulimit", "nproc=4096:4096"]
    done = subprocess.run([*podman, *limits, image, *command[1:]], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def main() -> None:
    """Print the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    sys.stdout.write(json.dumps(document(parser.parse_args().image), indent=2) + "\n")


if __name__ == "__main__":
    main()
