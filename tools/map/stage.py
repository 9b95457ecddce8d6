"""Lays out what the image of the application is built from, in a folder of its own.

python tools/map/stage.py build/map

    app/        the application as `monai-deploy package` and the Containerfile take it: entry point, operators,
                library, and requirements.txt with the exact versions of constraints.txt
    app.yaml    likewise
    models/     the bundle, which is the package's model: configurations, weights with their card, documents, licence
    docs/, etc/, var/, bin/, flywheel/, bytecode.py
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tomllib
from pathlib import Path

from holoscan_cli.packager.config_reader import ApplicationConfiguration
from holoscan_cli.packager.parameters import PackageBuildParameters

from samreg.metadata import bundle_metadata

ROOT = Path(__file__).parents[2]
ENTRY = '''"""The entry point of the package: `python3 /opt/holoscan/app`."""

from app.process import enlarge_stack

enlarge_stack()

from app.__main__ import process  # noqa: E402

raise SystemExit(process())
'''
SAMREG = '#!/bin/sh\nexec python3 -m samreg "$@"\n'
GEAR = """#!/bin/sh
# Flywheel sets nothing but PATH.
export PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/holoscan/app HOME=/tmp CUPY_CACHE_DIR=/tmp/cupy OMP_WAIT_POLICY=PASSIVE
exec python3 /opt/holoscan/app
"""
MODEL = "samreg"


def stage(out: Path) -> None:
    """Write the folder anew."""
    if out.exists():
        shutil.rmtree(out)
    app = out / "app"
    for name in ("app", "operators"):
        _copy(ROOT / name, app / name)
    _copy(ROOT / "bundle" / "samreg", app / "samreg")
    bundle = out / "models" / MODEL
    for name in ("configs", "models", "docs"):
        _copy(ROOT / name, bundle / name)
    shutil.copy(ROOT / "LICENSE", bundle / "LICENSE")
    _copy(ROOT / "docs", out / "docs")
    (app / "__main__.py").write_text(ENTRY, encoding="utf-8")
    (app / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins()), encoding="utf-8")
    shutil.copy(ROOT / "LICENSE", app / "LICENSE")
    shutil.copy(ROOT / "app.yaml", out / "app.yaml")
    _executable(out / "var" / "tools", (ROOT / "tools" / "map" / "tools").read_text(encoding="utf-8"))
    shutil.copy(ROOT / "app.yaml", out / "var" / "app.yaml")
    shutil.copy(ROOT / "tools" / "map" / "bytecode.py", out / "bytecode.py")
    _executable(out / "bin" / "samreg", SAMREG)
    _executable(out / "flywheel" / "run", GEAR)
    shutil.copy(ROOT / "app" / "platforms" / "flywheel-manifest.json", out / "flywheel" / "manifest.json")
    _manifests(out)


def pins() -> list[str]:
    """What the image installs beside the library: all that it and its extra "map" need, as constraints.txt has it.

    Raises:
        KeyError: A package without an exact version there.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    exact = dict(re.findall(r"(?m)^([\w.-]+)(==.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8")))
    found = []
    asked = [*project["dependencies"], *project["optional-dependencies"]["map"]]
    for requirement in asked:
        name, extra = re.match(r"([\w.-]+)(?:\[(\w+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == project["name"]:
            asked += project["optional-dependencies"][extra]
        else:
            found.append(name + exact[name])
    return found


def _manifests(out: Path) -> None:
    """app.json and pkg.json by the packager's own classes; the first also where mercure looks for it."""
    parameters = PackageBuildParameters()
    parameters.application = out / "app"
    parameters.app_config_file_path = out / "app.yaml"
    parameters.version = bundle_metadata().version
    parameters.models = {MODEL: out / "models" / MODEL}
    configuration = ApplicationConfiguration()
    configuration.read(out / "app.yaml")
    manifest = configuration.populate_app_manifest(parameters)
    manifest.command = json.dumps(["python3", "/opt/holoscan/app"])
    manifest.liveness = {"type": "command", "command": ["samreg", "selftest"], "timeoutSeconds": 120}
    package = configuration.populate_package_manifest(parameters)
    for name, document in (("app", manifest.data), ("pkg", package.data)):
        for folder in ("holoscan", "monai"):
            path = out / "etc" / folder / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "platforms"))


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def main() -> None:
    """Stage into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    stage(parser.parse_args().out)


if __name__ == "__main__":
    main()
