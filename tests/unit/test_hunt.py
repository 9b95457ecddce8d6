"""A few hundred damaged files of every format; `tools/hunt.py` makes as many as one likes."""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import header_dtype
from pydicom import dcmread
from pydicom.datadict import dictionary_description
from pydicom.dataelem import RawDataElement

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "tools"))
    import hunt
    import hunt_seeds
    import mutations

COUNT = 10  # of each format
# Decoders in other languages may end the process; these are read in a process of their own.
ELSEWHERE = ("DICOM RLE", "DICOM JPEG-LS", "DICOM JPEG 2000", "transform .h5")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, hunt_seeds.Seed]:
    return {seed.format: seed for seed in hunt_seeds.write_seeds(tmp_path_factory.mktemp("seeds"))}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in hunt_seeds.FORMATS if name not in ELSEWHERE])
def test_damage_is_refused_or_read_as_far_as_it_can_be_told(seeds, tmp_path: Path, name: str):
    seed = seeds[name]
    sound = hunt.read(seed.reads, seed.folder / seed.entry, seed.reference)
    assert "digest" in sound
    for number in range(COUNT):
        place = tmp_path / str(number)
        place.mkdir()
        done = hunt.damage(seed, place, np.random.default_rng([16, number]))
        answer = hunt.read(seed.reads, place / seed.entry, seed.reference)
        got = hunt.outcome(answer, sound, sealed=seed.sealed and done in mutations.BYTES)
        assert got in hunt.OUTCOMES, f"{done}, number {number}: {answer}"


def each_outcome(seed: hunt_seeds.Seed, place: Path, inputs):
    """What came of each of these contents of the seed's entry, or of the first file of a series."""
    sound = hunt.read(seed.reads, seed.folder / seed.entry, seed.reference)
    shutil.copytree(seed.folder, place)
    file = place / seed.entry if seed.entry != "." else min(place.iterdir())
    for what, data in inputs:
        file.write_bytes(data)
        yield what, hunt.outcome(hunt.read(seed.reads, place / seed.entry, None), sound, sealed=False)


def limits_of_nifti(whole: bytes):
    """Each entry of each field at each limit of its type."""
    for name in header_dtype.names:
        dtype, start = header_dtype.fields[name][:2]
        base = dtype.base
        values = {"f": mutations.FRACTIONS[::2], "S": (b"", b"\xff" * 80)}.get(base.kind)
        if values is None:
            limits = np.iinfo(base)
            values = (limits.min, limits.max, 0, 1, 2, 5)
        with np.errstate(over="ignore", under="ignore"):
            entries = [np.array(value).astype(base).tobytes() for value in values]
        for at in range(start, start + dtype.itemsize, base.itemsize):
            yield from ((name, whole[:at] + entry + whole[at + base.itemsize :]) for entry in entries)


# The fields that say what the voxels are, and where they lie.
MEANING = {"dim", "datatype", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units", "sizeof_hdr", "magic"}
MEANING |= {f"quatern_{a}" for a in "bcd"} | {f"qoffset_{a}" for a in "xyz"} | {f"srow_{a}" for a in "xyz"}
MEANING |= {"qform_code", "sform_code"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["NIfTI", "displacement NIfTI"])
def test_every_field_of_nifti_at_its_limits(seeds, tmp_path: Path, name: str):
    seed = seeds[name]
    whole = (seed.folder / seed.entry).read_bytes()
    for field, got in each_outcome(seed, tmp_path / "a", limits_of_nifti(whole)):
        assert got in hunt.OUTCOMES, field
        assert field in MEANING or got != "otherwise", field


def limits_of_text(whole: bytes):
    """Each value of a header, replaced by words that are at a limit, or none."""
    end = whole.find(b"\n\n") if whole.startswith(b"NRRD") else whole.find(b"LOCAL")
    for value in list(re.finditer(rb"[:=] ?([^\n:=]*)", whole[: end if end > 0 else len(whole)]))[:24]:
        for word in mutations.WORDS[::2]:
            yield (value.group(), word[:20]), whole[: value.start(1)] + word + whole[value.end(1) :]


def limits_of_tiff(whole: bytes):
    """Each tag of each type, with few and many values, and with values at limits."""
    (start,) = struct.unpack_from("<I", whole, 4)
    (count,) = struct.unpack_from("<H", whole, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from("<HHII", whole, at)
        entries = [(other, number, value) for other in range(14)]
        entries += [(kind, other, value) for other in (0, 2, 1000, 2**32 - 1)]
        entries += [(kind, number, other) for other in (0, 1, 3, 65535, 2**31, 2**32 - 1)]
        for entry in entries:
            yield (tag, entry), whole[:at] + struct.pack("<HHII", tag, *entry) + whole[at + 12 :]


TEXTS, TIFFS = ("NRRD raw", "MetaImage", "transform .txt"), ("TIFF", "TIFF deflate", "TIFF LZW")


@pytest.mark.filterwarnings("ignore")  # Pillow's, of odd tags
@pytest.mark.parametrize(
    ("name", "limits"), [*((name, limits_of_text) for name in TEXTS), *((name, limits_of_tiff) for name in TIFFS)]
)
def test_every_value_of_a_header_at_its_limits(seeds, tmp_path: Path, name: str, limits):
    seed = seeds[name]
    whole = (seed.folder / seed.entry).read_bytes()
    for what, got in each_outcome(seed, tmp_path / "a", limits(whole)):
        assert got in hunt.OUTCOMES, what


def limits_of_dicom(whole: bytes):
    """Each element of a data set left out, and at limits."""
    tags = list(dcmread(io.BytesIO(whole)).keys())
    for tag, value in itertools.product(tags, (None, b"-1", b"A" * 70)):
        dataset = dcmread(io.BytesIO(whole))
        element = dataset.get_item(tag)
        if value is None or not isinstance(element, RawDataElement):
            del dataset[tag]
        else:
            dataset._dict[tag] = element._replace(value=value, length=len(value))
        out = io.BytesIO()
        dataset.save_as(out)
        yield (dictionary_description(tag), value), out.getvalue()


MEANING_OF_DICOM = ("Rescale", "Pixel Representation", "Pixel Data", "Bits")  # may change one image of a series alone


@pytest.mark.filterwarnings("ignore")
def test_every_element_of_dicom_at_its_limits(seeds, tmp_path: Path):
    seed = seeds["DICOM"]
    inputs = limits_of_dicom(min(seed.folder.iterdir()).read_bytes())
    for (name, value), got in each_outcome(seed, tmp_path / "a", inputs):
        assert got in hunt.OUTCOMES, (name, value)
        assert got != "otherwise" or name.startswith(MEANING_OF_DICOM), (name, value)


def test_the_tool_ends_well_where_it_finds_nothing(tmp_path: Path, capsys):
    assert hunt.main(["--count", "24", "--seed", "3", "--only", *ELSEWHERE, "-o", str(tmp_path)]) == 0
    assert "| all | 24 |" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_fault_is_told_and_its_input_kept(tmp_path: Path, monkeypatch, capsys):
    """Of a reader that ends the process, hangs, raises, and reads."""
    seed = hunt_seeds.write_seeds(tmp_path / "seeds", ["points"])[0]
    sound = hunt.read("points", seed.folder / seed.entry, None)
    answers = iter([sound, {"crash": "exit code -11"}, {"hang": "no answer"}, {"traceback": "KeyError"}, sound])
    monkeypatch.setattr(hunt.Worker, "read", lambda self, seed, path: next(answers))
    out = tmp_path / "out"
    assert hunt.main([str(seed.folder / seed.entry), "--count", "4", "-o", str(out)]) == 1
    assert "| 4 | 1 | 0 | 0 | 0 | 0 | 1 | 1 | 1 | 0 |" in capsys.readouterr().out
    kept = {path.name.split("-")[0] for path in out.iterdir()}
    assert kept == {"crash", "hang", "traceback"}
    assert (out / "crash-1-a.csv-0" / "a.csv").is_file()
    assert "exit code -11" in (out / "crash-1-a.csv-0.txt").read_text()


def test_the_worker_is_replaced_after_a_crash_and_a_hang(tmp_path: Path):
    (tmp_path / "p.csv").write_text("1,2,3\n")
    worker = hunt.Worker(timeout_s=0.5, memory_gb=1.0, log=tmp_path / "log")
    try:
        seed = hunt_seeds.Seed("points", tmp_path, "p.csv", "points")
        assert "numbers" in worker.read(seed, tmp_path / "p.csv")
        os.mkfifo(tmp_path / "fifo.csv")  # whose reading waits for a writer
        assert "hang" in worker.read(seed, tmp_path / "fifo.csv")
        # A label map without its image ends the process.
        assert "crash" in worker.read(hunt_seeds.Seed("labels", tmp_path, "p.csv", "labels"), tmp_path / "p.csv")
    finally:
        worker.close()


def test_the_same_seed_makes_the_same_inputs(seeds):
    for name, seed in seeds.items():
        data = sorted(path for path in seed.folder.rglob("*") if path.is_file())[0].read_bytes()
        for number in range(6):
            one, two = (mutations.mutated(data, seed.family, np.random.default_rng(number)) for _ in range(2))
            assert one == two, name
