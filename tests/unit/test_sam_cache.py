"""The cache of slices: keys, limits of size, and what goes wrong with files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from samreg.errors import UsageError
from samreg.promptable_models.cache import SliceCache, key_of
from samreg.whole_files import whole_file
from tests.faults import in_another_process


def test_keys_tell_pixels_shapes_and_settings_apart():
    one = np.arange(6, dtype=np.float32)
    keys = {
        key_of("a", one),
        key_of("b", one),
        key_of("a", one + 1),
        key_of("a", one.reshape(2, 3)),
        key_of("", "a", one),
    }
    assert len(keys) == 5
    assert key_of("a", one) == key_of("a", one.copy())


A, B, C = (key_of(name) for name in "abc")


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    tensor = {"x": torch.zeros(1000)}  # 4 kB and a header
    cache = SliceCache(tmp_path, limit_gb=1e-5)  # room for two
    for age, key in ((30, A), (20, B)):
        cache.store(key, tensor)
        then = time.time() - age
        os.utime(tmp_path / f"{key}.safetensors", (then, then))
    assert cache.load(A) is not None  # now B is the one not used for longest
    cache.store(C, tensor)
    assert cache.load(B) is None
    assert cache.load(A) is not None
    assert cache.load(C) is not None


def test_files_of_others_are_never_removed(tmp_path):
    """Someone keeps weights, or a download that is under way, in the same folder."""
    names = ("sam.safetensors", "model-00001-of-00002.safetensors", "sam.pth.part")
    for name in names:
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (0, 0))
    SliceCache(tmp_path, limit_gb=1e-9).store(A, {"x": torch.zeros(10)})
    assert {path.name for path in tmp_path.iterdir()} == {*names}


def test_a_file_that_a_process_left_behind_is_removed(tmp_path):
    def killed() -> None:
        with whole_file(tmp_path / f"{B}.safetensors") as part:
            part.write_bytes(bytes(10))
            os._exit(9)

    assert in_another_process(killed) == 9
    assert list(tmp_path.iterdir())
    SliceCache(tmp_path).store(A, {"x": torch.zeros(10)})
    assert [path.name for path in tmp_path.iterdir()] == [f"{A}.safetensors"]


def test_a_damaged_entry_counts_as_absent(tmp_path):
    cache = SliceCache(tmp_path)
    cache.store(A, {"x": torch.ones(3)})
    path = tmp_path / f"{A}.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    assert cache.load(A) is None
    assert not path.exists()


def test_what_cannot_be_kept_is_said_and_does_not_stop_the_run(tmp_path, caplog):
    cache = SliceCache(tmp_path / "cache")
    (tmp_path / "cache" / f"{A}.safetensors").mkdir()  # in the place of an entry
    assert cache.load(A) is None
    cache.store(A, {"x": torch.ones(3)})
    (tmp_path / "cache" / f"{A}.safetensors").rmdir()
    (tmp_path / "cache").rmdir()
    cache.store(A, {"x": torch.ones(3)})
    assert caplog.text.count("cannot be written") == 2


@pytest.mark.parametrize("folder", ["", "file", "file/cache"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(UsageError, match="cache"):
        SliceCache(folder)
