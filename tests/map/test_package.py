"""The package of the application: what is staged for its image, its manifests, and the tools it answers with."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from samreg import __version__

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools" / "map" / "tools"
PLATFORMS = ROOT / "app" / "platforms"

needs_map = pytest.mark.skipif(
    not importlib.util.find_spec("holoscan_cli"), reason="the extra 'map' is not installed: pip install '.[map]'"
)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("map") / "context"
    subprocess.run([sys.executable, ROOT / "tools" / "map" / "stage.py", out], check=True, cwd=ROOT)
    return out


@needs_map
def test_the_context_is_complete_for_the_image_and_for_the_packager(staged: Path):
    for path in (
        "app/__main__.py", "app/app/__main__.py", "app/operators/__init__.py", "app/samreg/__init__.py",
        "app/requirements.txt", "models/samreg/configs/metadata.json", "models/samreg/configs/presets/samreg.yaml",
        "models/samreg/models/embedded.safetensors", "models/samreg/docs/README.md", "models/samreg/LICENSE",
        "docs/README.md", "app.yaml", "var/tools",
    ):  # fmt: skip
        assert (staged / path).is_file(), path
    copied = {line.split()[1].rstrip("/") for line in (ROOT / "Containerfile").read_text().splitlines()
              if line.startswith("COPY")}  # fmt: skip
    assert all((staged / path).exists() for path in copied)
    assert os.access(staged / "var" / "tools", os.X_OK)


@needs_map
def test_the_manifests_say_how_to_run_it(staged: Path):
    for folder in ("holoscan", "monai"):
        app = json.loads((staged / "etc" / folder / "app.json").read_text())
        package = json.loads((staged / "etc" / folder / "pkg.json").read_text())
        assert json.loads(app["command"]) == ["python3", "/opt/holoscan/app"]
        assert (app["version"], package["version"]) == (__version__, __version__)
        assert (app["input"]["path"], app["output"]["path"]) == ("input/", "output/")
        assert package["models"] == {"samreg": "/opt/holoscan/models/samreg"}
        assert package["resources"] == yaml.safe_load((ROOT / "app.yaml").read_text())["resources"]


@needs_map
def test_what_is_staged_runs_without_the_repository(staged: Path, tmp_path: Path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    # -S -I would leave out the installed packages; the library must come from the staged folder.
    code = f"import sys; sys.path.insert(0, {str(staged / 'app')!r}); import samreg; from samreg.config import presets;"
    code += "from samreg.embedded.files import weights_file; print(samreg.__file__, presets(), weights_file())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(staged / "app" / "samreg" / "__init__.py")
    assert done.stdout.split()[-1] == str(staged / "models" / "samreg" / "models" / "embedded.safetensors")
    assert "samreg" in done.stdout


@needs_map
def test_the_image_installs_exact_versions_of_all_that_the_library_and_its_doors_need(staged: Path):
    lines = (staged / "app" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(line.partition("==")[2] for line in lines)
    assert {"torch", "pydicom", "monai", "fire", "holoscan-cu13"} < {line.partition("==")[0] for line in lines}
    assert set(lines) < set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())


def tools(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOLOSCAN_APPLICATION": str(folder / "application"),
        "HOLOSCAN_APP_MANIFEST_PATH": str(folder / "app.json"),
        "HOLOSCAN_PKG_MANIFEST_PATH": str(folder / "pkg.json"),
        **environ,
    }
    return subprocess.run(["sh", TOOLS, *arguments], env=environment, capture_output=True, text=True, cwd=folder)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose application ends with the exit code that its option names."""
    (tmp_path / "application").mkdir()
    (tmp_path / "application" / "__main__.py").write_text(
        "import sys\nprint(sys.argv[1:])\nsys.exit(int(sys.argv[-1]))\n"
    )
    for name in ("app", "pkg"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"what": name}))
    return tmp_path


@pytest.mark.parametrize("word", [["run"], []])
def test_the_exit_code_is_that_of_the_application(package: Path, word: list[str]):
    done = tools(package, *word, "--transform", "a b", "4")
    assert done.returncode == 4
    assert done.stdout.strip() == "['--transform', 'a b', '4']"


def test_the_tools_show_the_manifests_and_the_environment(package: Path):
    assert json.loads(tools(package, "show", "pkg").stdout) == {"what": "pkg"}
    assert '"app"' in tools(package, "show").stdout
    assert tools(package, "show", "nothing").returncode == 2
    assert "SAMREG_TEST=1" in tools(package, "env", SAMREG_TEST="1").stdout.splitlines()
    assert "extract" in tools(package, "help").stdout


def test_extract_without_a_mount_says_so(package: Path):
    done = tools(package, "extract")
    assert done.returncode == 2
    assert "/var/run/holoscan/export" in done.stderr


def test_the_descriptors_name_this_version():
    for file in PLATFORMS.iterdir():
        text = file.read_text(encoding="utf-8")
        assert f"samreg-map:{__version__}" in text, file.name
    for name in ("xnat-command", "flywheel-manifest", "monai-workflow"):
        assert json.loads((PLATFORMS / f"{name}.json").read_text())["version"] == __version__


def test_the_xnat_command_mounts_what_it_uses():
    command = json.loads((PLATFORMS / "xnat-command.json").read_text())
    mounts = {mount["name"]: mount for mount in command["mounts"]}
    (wrapper,) = command["xnat"]
    filled = {entry.get("provides-files-for-command-mount") for entry in wrapper["derived-inputs"]} - {None}
    assert filled | {output["mount"] for output in command["outputs"]} == set(mounts)
    assert {name for name, mount in mounts.items() if mount["writable"]} == {"results"}
    for entry in command["inputs"]:
        used = command["command-line"] + json.dumps(command["environment-variables"])
        assert entry["replacement-key"] in used
    assert {handler["accepts-command-output"] for handler in wrapper["output-handlers"]} == {"results"}


def test_the_package_states_the_version_of_the_library():
    assert yaml.safe_load((ROOT / "app.yaml").read_text())["application"]["version"] == __version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == "samreg"


@needs_map
def test_the_packager_of_the_sdk_makes_a_complete_context(staged: Path, tmp_path: Path, monkeypatch):
    """`monai-deploy package`, the second way, up to where it hands its context to Docker."""
    from holoscan_cli import __main__ as packager
    from holoscan_cli.packager import container_builder

    kept = tmp_path / "kept"
    monkeypatch.setattr(packager, "set_up_logging", lambda level: None)
    monkeypatch.setattr(container_builder, "create_and_get_builder", lambda name: name)
    monkeypatch.setattr(
        container_builder, "build_docker_image", lambda **asked: shutil.copytree(asked["context_path"], kept)
    )
    images = {"dgpu": "base", "igpu": "base", "cpu": "base"}
    artifacts = {"wheel-version": "4.2.0", "debian-version": "4.2.0", "base-images": images, "build-images": images}
    source = tmp_path / "source.json"  # the packager would fetch it
    source.write_text(json.dumps({"4.2.0": {"holoscan": artifacts}}))
    named = {"config": staged / "app.yaml", "models": staged / "models", "docs": staged / "docs", "source": source,
             "tag": "samreg-map:test", "platform": "x86_64", "sdk": "monai-deploy"}  # fmt: skip
    options = [str(word) for key, value in named.items() for word in (f"--{key}", value)]
    packager.main(["monai-deploy", "package", str(staged / "app"), *options])
    for name in ("app", "models", "docs"):
        assert files_in(kept / name) == files_in(staged / name)
    assert (kept / "pip" / "requirements.txt").read_text().split() == (
        staged / "app" / "requirements.txt"
    ).read_text().split()
    assert (kept / "app.config").read_text() == (staged / "app.yaml").read_text()
    manifest = json.loads((kept / "map" / "app.json").read_text())
    assert json.loads(manifest["command"]) == ["python3", "/opt/holoscan/app"]
    assert manifest["version"] == __version__


def files_in(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}
