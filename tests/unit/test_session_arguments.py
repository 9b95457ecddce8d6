"""What a session refuses and chooses before it registers: the configuration, the series of two folders, label maps."""

from __future__ import annotations

import numpy as np
import pytest

from samreg import Config, Session, register, session
from samreg.cli import main
from samreg.errors import InputRefused, UsageError
from samreg.io import read_image
from samreg.run import plan
from samreg.session import locate
from samreg.sources import Sources
from tests.dicom_series import small_volume, write_small
from tests.instant import instant_result

DESCRIPTIONS = ("T1 tra", "T2 tra")


@pytest.fixture
def folders(tmp_path):
    """Two folders with a T1 and a T2 series each."""
    paths = []
    for number, role in enumerate(("fixed", "moving")):
        for weighting, description in enumerate(DESCRIPTIONS):
            write_small(
                tmp_path / role / str(weighting),
                seed=2 * number + weighting,
                series_uid=f"1.{number}.{weighting}",
                overrides={"SeriesDescription": description},
            )
        paths.append(tmp_path / role)
    return paths


@pytest.fixture
def registered(monkeypatch) -> list:
    """Stands in for the pipeline, and keeps the images and label maps that it is given."""
    seen: list = []

    def run(fixed, moving, tools, labels=None, on_progress=None, constraints=None):
        seen.append((fixed, moving, labels))
        return instant_result(fixed, moving, tools.config)

    monkeypatch.setattr(session, "run", run)
    return seen


def config(**series) -> Config:
    return Config(encoder="handcrafted", transform="rigid", device="cpu", series=series)


def hashes(folders, number: int) -> list[str]:
    return [read_image(folder / str(number)).content_hash for folder in folders]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("call", [register, lambda *args: Session(args[-1]).register(*args[:-1])])
def test_the_rules_for_series_choose_what_is_registered(folders, registered, number, call):
    rule = {"description": DESCRIPTIONS[number]}
    result = call(*folders, config(fixed=rule, moving=rule))
    ((fixed, moving, _),) = registered
    assert [fixed.content_hash, moving.content_hash] == hashes(folders, number)
    assert any("T1" in sentence or "description" in sentence for sentence in result.series)


def test_without_rules_a_folder_with_two_series_is_refused(folders, registered):
    with pytest.raises(InputRefused, match="series"):
        register(*folders, config())
    assert not registered


def test_several_moving_series_are_no_single_pair(folders, registered):
    rules = config(fixed={"description": "T1"}, several_moving=True)
    with pytest.raises(UsageError, match="2 series can be the moving one") as refused:
        register(*folders, rules)
    assert "samreg.run.run" in refused.value.next_step
    assert not registered


def test_rules_for_series_are_refused_for_images_that_are_none(folders, tmp_path):
    from samreg.io.writing import write_image

    for name in "ab":
        write_image(small_volume().voxels, small_volume().grid, tmp_path / f"{name}.nii.gz")
    with pytest.raises(UsageError, match="images that are not DICOM"):
        register(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", config(fixed={"description": "T1"}))


def test_locate_follows_the_rules_in_python_and_by_the_command(folders, registered, tmp_path, monkeypatch):
    seen = []

    def counterpart(fixed, moving, *_):
        seen.append([fixed.content_hash, moving.content_hash])
        raise InputRefused("that is all", reason="no-region")

    monkeypatch.setattr(session, "counterpart_of", counterpart)
    rule = {"description": "T2"}
    with pytest.raises(InputRefused, match="That is all"):
        locate(*folders, np.zeros(3), config(fixed=rule, moving=rule))
    (tmp_path / "c.yaml").write_text("series: {fixed: {description: T2}, moving: {description: T2}}\n")
    options = ["--point", "0", "0", "0", "--config", str(tmp_path / "c.yaml"), "--encoder", "handcrafted"]
    assert main(["locate", *map(str, folders), *options, "--quiet", "--device", "cpu"]) == 3
    assert seen == [hashes(folders, 1)] * 2


CONTRADICTIONS = [
    ({"transform": "rigid", "estimators": {"rigid": ["velocity"]}}, "deformable, is listed where rigid is asked for"),
    ({"estimators": {"deformable": ["rigid", "rigid"]}}, "'rigid' stands twice"),
    ({"transform": "rigid", "estimators": {"affine": ["rigid", "afine"]}}, "The estimator 'afine' is unknown"),
    ({"transform": "rigid", "estimators": {"deformable": ["rigid", "rigid"]}}, "'rigid' stands twice"),
]


@pytest.mark.parametrize(("values", "said"), CONTRADICTIONS)
def test_every_door_refuses_a_list_of_estimators_before_it_reads(folders, tmp_path, capsys, values, said):
    asked = Config(encoder="handcrafted", device="cpu").with_values(values)
    sentences = set()
    for call in (
        lambda: plan(Sources(*folders), tmp_path / "out", asked),
        lambda: register(*folders, asked),  # whose series are ambiguous, if they were read
        lambda: Session(asked).register("no-such-file", "no-such-file"),
        lambda: Session(asked).locate(*folders, np.zeros(3)),
    ):
        with pytest.raises(UsageError, match=said) as refused:
            call()
        sentences.add(refused.value.sentence)
    (tmp_path / "c.json").write_text(asked.with_values({}).model_dump_json(include={"estimators", "transform"}))
    for dry in ([], ["--dry-run"]):
        options = ["-o", str(tmp_path / "out"), "--config", str(tmp_path / "c.json"), "--encoder", "handcrafted"]
        assert main(["register", *map(str, folders), *options, "--device", "cpu", "--quiet", *dry]) == 2
        sentences.add(capsys.readouterr().err.strip().removeprefix("samreg: "))
    assert len(sentences) == 1, sentences


def labelled(change) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros(small_volume().grid.shape, np.int16)
    labels[3:6, 3:6, 2:4] = 7
    return labels, change(labels.copy())


def put(value, kind):
    def change(labels):
        labels = labels.astype(kind)
        labels[0, 0, 0] = value
        return labels

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(1.5, np.float32), "not-labels"),
        (put(-1, np.int16), "not-labels"),
        (put(np.nan, np.float32), "non-finite-voxels"),
        (put(np.inf, np.float64), "non-finite-voxels"),
        (put(2**24 + 1, np.float32), "label-limit"),
        (put(1j, np.complex64), "not-greyscale"),
        (put("a", object), "not-greyscale"),
        (lambda labels: labels[1:], "other-grid"),
        (lambda labels: labels[..., None], "other-grid"),
        (lambda labels: 0 * labels, "no-labels"),
    ],
)
def test_label_arrays_are_refused_as_files_are(registered, change, reason):
    fixed, moving = labelled(change)
    with pytest.raises(InputRefused) as refused:
        register(small_volume(), small_volume(), config(), fixed_labels=fixed, moving_labels=moving)
    assert refused.value.reason == reason
    assert not registered


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_label_arrays_of_whole_numbers_are_taken_whatever_their_type(registered, kind):
    fixed, moving = labelled(lambda labels: labels.astype(kind))
    register(small_volume(), small_volume(), config(), fixed_labels=fixed, moving_labels=moving)
    _, found = registered[0][2]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, moving)


@pytest.mark.parametrize("asked", [{"keep_rigid": "implant.nii.gz"}, "pairs.csv"])
def test_constraints_of_another_type_are_refused(registered, asked):
    with pytest.raises(UsageError, match=r"constraints are of the type .*Expected `samreg.ConstraintInputs`"):
        register(small_volume(), small_volume(), config(), constraints=asked)
    assert not registered
