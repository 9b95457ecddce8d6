"""How many threads there are and how they wait: told from files as a kernel writes them, and seen in processes."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from samreg import threads
from samreg.config import Config
from samreg.errors import UsageError
from samreg.threads import in_parallel, limited, prepare, processors

HOST = 64


class Host:
    """A host of 64 processors whose kernel tells of control groups by files."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.mounted = folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.mounted.mkdir()

    def says(self, *, groups: str, mounts: str) -> None:
        (self.proc / "self" / "cgroup").write_text(groups)
        (self.proc / "self" / "mountinfo").write_text(mounts.replace("@", str(self.mounted)))

    def group(self, path: str, **files: str) -> None:
        folder = self.mounted / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("cpu_", "cpu.", 1)).write_text(text + "\n")

    def processors(self, **environ: str) -> int:
        return processors(environ, self.proc)


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(HOST)))
    return Host(tmp_path)


V2 = "29 22 0:26 / @ rw,relatime - cgroup2 cgroup2 rw\n"
V1 = "30 22 0:27 / @ rw - cgroup cgroup rw,cpu,cpuacct\n31 22 0:28 / @/../memory rw - cgroup cgroup rw,memory\n"


def test_without_a_quota_all_processors_of_the_affinity_count(host, monkeypatch):
    assert host.processors() == HOST
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 9})
    assert host.processors() == 3


def test_a_quota_of_version_2_counts(host):
    host.says(groups="0::/user/job\n", mounts=V2)
    host.group("user/job", cpu_max="200000 100000")
    assert host.processors() == 2


def test_a_quota_of_version_1_counts(host):
    host.says(groups="4:memory:/else\n3:cpu,cpuacct:/docker/abc\n", mounts=V1)
    host.group("docker/abc", cpu_cfs_quota_us="200000", cpu_cfs_period_us="100000")
    assert host.processors() == 2


def test_the_groups_above_limit_too(host):
    host.says(groups="0::/pod/container\n", mounts=V2)
    host.group("pod", cpu_max="300000 100000")
    host.group("pod/container", cpu_max="max 100000")
    assert host.processors() == 3


def test_a_container_sees_its_group_at_the_mount_point(host):
    host.says(groups="0::/\n", mounts=V2)
    host.group("", cpu_max="150000 100000")
    assert host.processors() == 2  # one and a half, rounded up
    # Version 1 without a namespace of its own: the path is the host's, and so is the root of the mount.
    host.says(groups="3:cpu,cpuacct:/docker/abc\n", mounts=V1.replace("0:27 /", "0:27 /docker/abc"))
    (host.mounted / "cpu.max").unlink()
    host.group("", cpu_cfs_quota_us="500000", cpu_cfs_period_us="100000")
    assert host.processors() == 5


def test_what_a_kernel_may_write_is_no_reason_to_fail(host):
    odd = [
        "29 22 0:26 / /run/user\\040dir rw - tmpfs  rw",  # a mount without a source
        "29 22 0:26 / /mnt/B\udcfcro\u2028x rw - cifs //host/share rw",  # no UTF-8; a new line to Python
        "not a mount at all",
        "",
    ]
    (host.proc / "self" / "cgroup").write_bytes(b"0::/a b\nnonsense\n\n7:\xff:/\n")
    place = str(host.mounted).replace(" ", "\\040")
    text = "\n".join([*odd, f"30 22 0:27 / {place} rw - cgroup2 none rw"])
    (host.proc / "self" / "mountinfo").write_bytes(os.fsencode(text))
    host.group("a b", cpu_max="200000 100000")
    assert host.processors() == 2


def test_a_group_is_that_of_the_mount_by_whole_names(host):
    host.says(groups="3:cpu,cpuacct:/docker2\n", mounts=V1.replace("0:27 /", "0:27 /docker"))
    host.group("2", cpu_cfs_quota_us="100000", cpu_cfs_period_us="100000")
    host.group("", cpu_cfs_quota_us="400000", cpu_cfs_period_us="100000")
    assert host.processors() == 4


def test_where_the_affinity_is_unknown_all_processors_count(host, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert host.processors() == 6


@pytest.mark.parametrize("quota", ["max 100000", "-1", "", "nonsense"])
def test_what_names_no_quota_limits_nothing(host, quota):
    host.says(groups="0::/a\n3:cpu,cpuacct:/a\n", mounts=V2 + V1)
    host.group("a", cpu_max=quota, cpu_cfs_quota_us=quota.split()[0] if quota else "", cpu_cfs_period_us="100000")
    assert host.processors() == HOST


def test_less_than_one_processor_is_one(host):
    host.says(groups="0::/a\n", mounts=V2)
    host.group("a", cpu_max="50000 100000")
    assert host.processors() == 1


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("3", 3),
        ("3,2", 3),
        ("", HOST),
        ("many", HOST),
        ("100", HOST),
        ("²", HOST),
        ("0", HOST),
        ("+2", 2),
        ("9" * 5000, HOST),
    ],
)
def test_the_environment_may_ask_for_fewer(host, asked, count):
    assert host.processors(OMP_NUM_THREADS=asked) == count


def test_a_limit_of_all_threads_counts_too(host):
    assert host.processors(OMP_THREAD_LIMIT="5", OMP_NUM_THREADS="8") == 5


@pytest.mark.parametrize("count", ["", "0", "-1", "many"])
def test_what_asks_for_nothing_counts_as_not_said(host, count):
    host.says(groups="0::/a\n", mounts=V2)
    host.group("a", cpu_max="200000 100000")
    environ = {"OMP_WAIT_POLICY": " ", "OMP_NUM_THREADS": count}
    prepare(environ, host.proc)
    assert environ == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}


def test_threads_are_made_to_wait_asleep_and_as_many_as_a_quota_allows(host, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    host.says(groups="0::/a\n", mounts=V2)
    host.group("a", cpu_max="200000 100000")
    environ: dict[str, str] = {}
    prepare(environ, host.proc)
    assert environ == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}


def test_what_the_environment_says_stays(host):
    environ = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "7"}
    prepare(environ, host.proc)
    assert environ == {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "7"}


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept | environ)


def test_torch_before_samreg_is_told_once_with_the_remedy():
    work = "\nfrom samreg.threads import limited\nfor _ in range(2):\n    with limited():\n        pass"
    told = python(f"import torch, samreg{work}").stderr
    if threads.processors({}) > 1:
        assert told.count("Warning") == 1
        assert "OMP_WAIT_POLICY=PASSIVE" in told
    assert not python(f"import torch, samreg{work}", OMP_WAIT_POLICY="PASSIVE").stderr
    assert not python(f"import samreg, torch{work}").stderr


def test_no_more_threads_than_asked_and_as_before_afterwards():
    before = torch.get_num_threads()
    with limited(1) as count:
        assert count == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with limited() as count:
        assert count == torch.get_num_threads() <= before
    with pytest.raises(UsageError, match="at least 1"), limited(0):
        pass


def test_no_more_threads_than_processors_whatever_is_asked(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with limited(500) as count:
        assert count <= 2


def test_the_number_of_threads_is_no_part_of_what_decides_the_result():
    assert Config(threads=1).hash == Config().hash
    with pytest.raises(UsageError, match="threads"):
        Config().with_values({"threads": 0})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_items_are_worked_on_one_thread_each_in_their_order(count):
    told: list[float] = []
    before = torch.get_num_threads()
    with limited(count) if count == 1 else _threads(count):
        got = in_parallel(lambda item: (item, torch.get_num_threads()), range(7), told.append)
    assert got == [(item, 1) for item in range(7)]
    assert told == pytest.approx([n / 7 for n in range(1, 8)])
    assert torch.get_num_threads() == before


class _threads:  # noqa: N801
    """More threads than this machine may have processors."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


def test_a_registration_in_a_thread_of_its_own_does_not_take_the_number_of_another():
    before = torch.get_num_threads()
    inside, checked = threading.Event(), threading.Event()
    seen = []

    def item(number: int) -> int:
        inside.set()
        checked.wait(10)
        return number

    def other() -> None:
        inside.wait(10)
        with limited() as count:
            seen.append(count)
        checked.set()

    with _threads(2):
        thread = threading.Thread(target=other)
        thread.start()
        assert in_parallel(item, range(4)) == [0, 1, 2, 3]
        thread.join()
        later: list[int] = []
        last = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        last.start()
        last.join()
    assert seen == [min(2, processors())]
    assert later == [2]
    assert torch.get_num_threads() == before


def test_an_error_of_one_item_ends_the_whole():
    def work(item: int) -> int:
        if item == 3:
            raise UsageError("item 3", "another")
        return item

    with _threads(2), pytest.raises(UsageError, match="Item 3"):
        in_parallel(work, range(50))
    assert in_parallel(work, []) == []


def test_a_process_of_its_own_counts_its_processors():
    code = "import json, samreg.threads as t, os; print(json.dumps([t.processors(), len(os.sched_getaffinity(0))]))"
    count, affinity = json.loads(python(code).stdout)
    assert 1 <= count <= affinity
    pinned = subprocess.run(
        ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(pinned.stdout)[0] == 1
