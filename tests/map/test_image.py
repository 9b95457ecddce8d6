"""The image in its sandbox, where `make map` has built it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from samreg import __version__
from samreg.io import read_pair
from samreg.phantoms import Patient
from samreg.transforms.files import read_transform
from tests.integration.test_real_series import assert_as_good_as_the_peer
from tests.map.test_app import contents
from tests.shared import DATA

ROOT = Path(__file__).parents[2]
PLATFORMS = ROOT / "app" / "platforms"
IMAGE = f"samreg-map:{__version__}"
UID = 12345 if os.getuid() == 0 else os.getuid()  # root may run it as anybody
# A field depends on the number of threads by some µm.
THREADS = f"--env OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '1')}"
REASON_ALONE = {"report.json", "result.json", "metadata.json"}


def built() -> bool:
    return bool(shutil.which("podman")) and not subprocess.run(["podman", "image", "exists", IMAGE]).returncode


pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(not built(), reason=f"there is no image {IMAGE}: make map"),
]


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`make map-run`, as a uid of its own."""
    return subprocess.run(
        [ROOT / "tools" / "map" / "run.sh", *command],
        env={**os.environ, "RUN_AS": f"{UID}:{UID}", "OPTIONS": THREADS, **environ},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def given(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, where anybody may read it."""
    folder = tmp_path_factory.mktemp("given") / "study"
    shutil.copytree(study, folder)
    folder.chmod(0o755)
    return folder


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


def apart_mm(a: Path, b: Path, reach_mm: float) -> float:
    """Largest distance between what two transforms make of the same points."""
    points = np.random.default_rng(0).uniform(-reach_mm, reach_mm, (500, 3))
    ours, theirs = (read_transform(folder / "transform.h5").map_points(points) for folder in (a, b))
    return float(np.abs(ours - theirs).max())


@pytest.mark.slow
def test_the_image_gives_the_results_of_the_command(study: Path, by_command: Path, tmp_path: Path):
    out = tmp_path / "out"
    done = run(study / "fixed", study / "moving", out)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in out.rglob("*.dcm")} == {p.name for p in by_command.rglob("*.dcm")}
    assert owners(out) == {UID}
    assert apart_mm(out, by_command, 120) < 1e-4


def test_a_container_of_one_processor_uses_one_thread():
    code = "from samreg.threads import limited, processors\nwith limited() as count:\n    print(processors(), count)"
    limits = "--cpus 1 --ulimit nofile=8192:8192 --ulimit nproc=4096:4096"
    podman = f"podman --runtime runc run --rm --network none {limits} --entrypoint python3".split()
    done = subprocess.run([*podman, IMAGE, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_the_sandbox_holds_while_it_runs(study: Path, tmp_path: Path):
    process = subprocess.Popen(
        [ROOT / "tools" / "map" / "run.sh", study / "fixed", study / "moving", tmp_path / "out"],
        env={**os.environ, "RUN_AS": f"{UID}:{UID}", "OPTIONS": f"--cidfile {tmp_path / 'cid'}"},
        stderr=subprocess.DEVNULL,
    )
    try:
        proc = Path("/proc") / started(tmp_path / "cid")
        status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines())
        mounts = [line.split()[4:6] for line in (proc / "mountinfo").read_text().splitlines()]
        interfaces = [line.split(":")[0].strip() for line in (proc / "net" / "dev").read_text().splitlines()[2:]]
        limit = memory_limit(proc)
    finally:
        process.kill()
        subprocess.run(["podman", "rm", "--force", "--time", "0", (tmp_path / "cid").read_text()], capture_output=True)
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Uid"].split() == [str(UID)] * 4
    assert interfaces == ["lo"]
    read_only = {place for place, options in mounts if "ro" in options.split(",")}
    assert read_only >= {"/", "/var/holoscan/input/fixed", "/var/holoscan/input/moving"}
    assert limit == 2 * 1024**3


def started(cid: Path) -> str:
    """Process of the container that will write its id to this file."""
    for _ in range(300):
        if cid.is_file() and cid.read_text():
            inspect = ["podman", "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", cid.read_text()]
            running, _, pid = subprocess.run(inspect, capture_output=True, text=True).stdout.partition(" ")
            if running == "true":
                return pid.strip()
        time.sleep(0.1)
    pytest.fail("the container did not start within 30 s")


def memory_limit(proc: Path) -> int:
    """Bytes, by either version of control groups."""
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        for file in (
            Path("/sys/fs/cgroup/memory") / group.lstrip("/") / "memory.limit_in_bytes",
            Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.max",
        ):
            if controllers in ("memory", "") and file.is_file():
                return int(file.read_text())
    pytest.skip("the control group of the container cannot be read")


def test_stopped_it_leaves_the_reason_alone(study: Path, tmp_path: Path):
    out = writable(tmp_path / "out")
    process = subprocess.Popen(
        [ROOT / "tools" / "map" / "run.sh", study / "fixed", study / "moving", out],
        env={**os.environ, "RUN_AS": f"{UID}:{UID}", "OPTIONS": f"--cidfile {tmp_path / 'cid'}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "were found in the fixed image" in line:
            break
    stop = ["podman", "kill", "--signal", "TERM", (tmp_path / "cid").read_text()]
    subprocess.run(stop, check=True, capture_output=True)
    said = process.stderr.read()
    assert process.wait(60) == 143
    assert "stopped from outside" in said
    assert {path.name for path in out.iterdir()} == REASON_ALONE
    assert contents(out / "result.json")["exit_code"] == 143


@pytest.mark.shared("decubitus")
@pytest.mark.slow
def test_a_real_pair_in_2_gigabytes(tmp_path: Path):
    out = tmp_path / "out"
    done = run(DATA / "decubitus" / "HFS", DATA / "decubitus" / "HFDR", out, "--device", "cpu", "--transform", "rigid")
    assert done.returncode == 0, done.stderr
    assert owners(out) == {UID}
    assert contents(out / "report.json")["status"] == "PASS"
    found = read_transform(out / "transform.h5")
    assert_as_good_as_the_peer(*read_pair(DATA / "decubitus" / "HFS", DATA / "decubitus" / "HFDR"), found, found)
    objects = sorted((out / "dicom").iterdir())
    assert {path.name for path in objects} == {"reg.dcm", "seg_fixed.dcm", "seg_moving.dcm"}
    if not shutil.which("dciodvfy"):
        pytest.skip("the objects are there; dciodvfy is not installed")
    for path in objects:
        found = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        assert "Error" not in found.stdout + found.stderr


def test_a_refusal_ends_the_container_with_its_exit_code(study: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    done = run(study / "fixed", tmp_path / "empty", tmp_path / "out", "--log-format", "json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stderr.splitlines()[0])["message"] == f"samreg {__version__} starts."
    assert {path.name for path in (tmp_path / "out").iterdir()} == REASON_ALONE
    assert contents(tmp_path / "out" / "metadata.json")["exception"] == "InputRefused"
    assert owners(tmp_path / "out") == {UID}


def test_options_that_mean_nothing_end_it_with_2_and_leave_the_reason(study: Path, tmp_path: Path):
    done = run(study / "fixed", study / "moving", tmp_path / "out", "--transform", "nonsense")
    assert done.returncode == 2, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == REASON_ALONE
    assert "nonsense" in contents(tmp_path / "out" / "metadata.json")["exception_message"]


@pytest.mark.skipif(os.getuid() == UID, reason="only root runs it as somebody else")
def test_input_that_its_user_may_not_read_is_refused(given: Path, tmp_path: Path):
    locked = tmp_path / "locked"
    shutil.copytree(given / "moving", locked)
    locked.chmod(0o700)
    done = run(given / "fixed", locked, tmp_path / "out")
    assert done.returncode == 3, done.stderr
    report = contents(tmp_path / "out" / "report.json")
    assert report["error"]["reason"] == "no-permission"
    assert f"uid {UID}" in report["error"]["got"]


@pytest.mark.skipif(os.getuid() == UID, reason="only root runs it as somebody else")
def test_an_output_folder_that_its_user_may_not_use_is_told(study: Path, tmp_path: Path):
    (tmp_path / "out").mkdir(mode=0o700)
    done = run(study / "fixed", study / "moving", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert f"may not be used by the user with uid {UID}" in done.stderr
    assert not any((tmp_path / "out").iterdir())


def test_a_folder_that_is_not_there_is_told_before_the_container_starts(study: Path, tmp_path: Path):
    done = run(study / "fixed", tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not (tmp_path / "out").exists()


def test_it_tests_itself():
    done = called([], [], ["selftest"])
    assert done.returncode == 0, done.stdout + done.stderr


# As each platform calls it; all of them with a read-only root and no network.
QUICK = {"transform": "rigid", "encoder": "handcrafted"}


def called(
    options: Sequence[str], mounts: Sequence[str], command: Sequence[str], *, entrypoint: str | None = None
) -> subprocess.CompletedProcess[str]:
    podman = ["podman", "--runtime", "runc", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"]
    podman += ["--ulimit", "nofile=8192:8192", "--ulimit", "nproc=4096:4096", "--user", f"{UID}:{UID}"]
    podman += [] if entrypoint is None else ["--entrypoint", entrypoint]
    podman += [word for mount in mounts for word in ("--volume", mount)]
    return subprocess.run([*podman, *options, IMAGE, *command], capture_output=True, text=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that the container may write to."""
    return writable(tmp_path / "out")


def writable(folder: Path) -> Path:
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        os.chown(folder, UID, UID)
    return folder


def check(done: subprocess.CompletedProcess[str], out: Path, platform: str) -> None:
    """It registered rigidly, as the settings of all these calls ask."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"The caller is {platform}." in done.stderr
    assert not any(word in done.stdout + done.stderr for word in (Patient.name, Patient.id, Patient.birth_date))
    result = contents(out / "result.json")
    assert (result["kind"], result["exit_code"]) == ("rigid", 0)
    assert (out / "dicom" / "reg.dcm").is_file()
    assert contents(out / "metadata.json") == {"exception": None, "exception_message": None}


def test_mercure(study: Path, tmp_path: Path, out: Path):
    data = tmp_path / "data"
    data.mkdir()
    for path in study.glob("*/*"):
        image = dcmread(path, stop_before_pixels=True)
        shutil.copy(path, data / f"{image.SeriesInstanceUID}#{image.SOPInstanceUID}.dcm")
    settings = contents(PLATFORMS / "mercure-module.json")["samreg"]["settings"] | QUICK
    (data / "task.json").write_text(json.dumps({"process": {"module_name": "samreg", "settings": settings}}))
    environ = {"MERCURE_IN_DIR": "/tmp/data", "MERCURE_OUT_DIR": "/tmp/output"}
    environ |= {"MONAI_INPUTPATH": "/tmp/data", "MONAI_OUTPUTPATH": "/tmp/output"}
    environ |= {"HOLOSCAN_INPUT_PATH": "/tmp/data", "HOLOSCAN_OUTPUT_PATH": "/tmp/output"}
    options = [word for pair in environ.items() for word in ("--env", "=".join(pair))]
    check(called(options, [f"{data}:/tmp/data", f"{out}:/tmp/output"], []), out, "mercure")
    assert {path.name for path in out.glob("*.dcm")} == {path.name for path in (out / "dicom").iterdir()}


def test_flywheel(study: Path, tmp_path: Path, out: Path):
    gear = tmp_path / "v0"
    inputs = {}
    for name in ("fixed", "moving"):
        archive = gear / "input" / name / f"{name}.dicom.zip"
        archive.parent.mkdir(parents=True)
        with zipfile.ZipFile(archive, "w") as file:
            for path in (study / name).iterdir():
                file.write(path, path.name)
        place = f"/flywheel/v0/input/{name}/{archive.name}"
        inputs[name] = {"base": "file", "location": {"name": archive.name, "path": place}}
    (gear / "config.json").write_text(
        json.dumps({"config": {"transform": "rigid", "settings": json.dumps(QUICK)}, "inputs": inputs})
    )
    mounts = [f"{gear / 'input'}:/flywheel/v0/input:ro", f"{gear / 'config.json'}:/flywheel/v0/config.json:ro"]
    # The platform starts the manifest's command with nothing but PATH.
    command = ["-i", "PATH=/usr/local/bin:/usr/bin:/bin", contents(PLATFORMS / "flywheel-manifest.json")["command"]]
    done = called([], [*mounts, f"{out}:/flywheel/v0/output"], command, entrypoint="env")
    check(done, out, "flywheel")


def test_xnat(given: Path, out: Path):
    command = contents(PLATFORMS / "xnat-command.json")
    filled = {"#TRANSFORM#": "", "#SETTINGS#": json.dumps(QUICK)}
    line = command["command-line"]
    options = []
    for name, value in command["environment-variables"].items():
        options += ["--env", f"{name}={filled.get(value, value)}"]
    for key, value in filled.items():
        line = line.replace(key, value)
    folders = {"fixed": given / "fixed", "moving": given / "moving", "results": out}
    mounts = [f"{folders[m['name']]}:{m['path']}:{'rw' if m['writable'] else 'ro'}" for m in command["mounts"]]
    program, *words = shlex.split(line)
    check(called(options, mounts, words, entrypoint=program), out, "options")


def test_xnat_finds_the_command_in_a_label():
    inspect = ["podman", "image", "inspect", "--format", '{{index .Config.Labels "org.nrg.commands"}}', IMAGE]
    label = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    assert json.loads(label) == [contents(PLATFORMS / "xnat-command.json")]


def test_the_workflow_manager_of_monai_deploy(given: Path, out: Path):
    task = contents(PLATFORMS / "monai-workflow.json")["tasks"][0]
    told = {key.removeprefix("env_"): value for key, value in task["args"].items() if key.startswith("env_")}
    told["SAMREG_SETTINGS"] = json.dumps(json.loads(told["SAMREG_SETTINGS"]) | QUICK)
    options = [word for pair in told.items() for word in ("--env", "=".join(pair))]
    (source,), (results,) = task["artifacts"]["input"], task["artifacts"]["output"]
    mounts = [f"{given}:{source['volume']}:ro", f"{out}:{results['volume']}"]
    done = called(options, mounts, [task["args"]["command"]], entrypoint=task["args"]["entrypoint"])
    check(done, out, "holoscan")


def test_kaapana(given: Path, tmp_path: Path):
    item = tmp_path / "data" / "batch" / "item"
    item.mkdir(parents=True)
    shutil.copytree(given, item / "get-input")
    out = writable(item / "samreg")
    environ = {"WORKFLOW_DIR": "/data", "BATCH_NAME": "batch", "OPERATOR_IN_DIR": "get-input"}
    environ |= {"OPERATOR_OUT_DIR": "samreg", "SAMREG_SETTINGS": json.dumps(QUICK)}
    options = [word for pair in environ.items() for word in ("--env", "=".join(pair))]
    check(called(options, [f"{tmp_path / 'data'}:/data"], []), out, "kaapana")
