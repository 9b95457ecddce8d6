"""Training: what is asked of the network, that it can be repeated, stopped and resumed, and what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samreg.embedded import network as net
from samreg.embedded.files import load_network
from samreg.errors import UsageError
from samreg.training import loop
from samreg.training.__main__ import main
from samreg.training.loop import Recipe, Training, train
from samreg.training.losses import matching, prototypes_of, segmentation
from samreg.training.muon import Muon
from samreg.training.pictures import draw_curves, read_log
from samreg.training.prompting import Tasks, boxes_of, corrected, draw_tasks
from samreg.training.synthesis import Draw, Synthesis

ROOT = Path(__file__).parents[2]
TINY = net.Size(widths=(8, 16, 16, 24), depths=(1, 1, 1, 1), layers=1, width=16, query_width=32, mask_channels=8)
SHORT = Recipe(steps=6, pixels=64 * 64 * 4, sizes=((64, 1.0),), prompts=4, precision="float32")


@pytest.fixture(scope="module")
def pairs():
    return Synthesis().draw(Draw(2), 6, 64)


@pytest.fixture(scope="module")
def tasks(pairs) -> Tasks:
    return draw_tasks(Draw(4), pairs, 10, full_size=True)


def pixels(places: torch.Tensor, size: int) -> torch.Tensor:
    return ((places + 1) / 2 * size).long().clamp(0, size - 1)


def test_points_lie_in_all_that_they_ask_for(tasks):
    at = pixels(tasks.prompts.places[:, :, 0], 64)
    points = ~tasks.is_box & tasks.wanted.any(2)
    assert points.any()
    n, p = points.nonzero(as_tuple=True)
    hit = tasks.targets[n, p][torch.arange(len(n)), :, at[n, p, 1], at[n, p, 0]]
    assert hit[tasks.wanted[n, p]].all()


def test_some_points_lie_on_nothing(tasks):
    assert (~tasks.wanted.any(2)).any()


def test_boxes_fit_their_region(tasks):
    n, p = (tasks.is_box & tasks.wanted[..., 0]).nonzero(as_tuple=True)
    low, high = boxes_of(tasks.targets[n, p, :1])
    sides = high - low
    corners = tasks.prompts.places[n, p, :2][:, None]
    assert ((corners[:, :, 0] - low).abs() <= 0.081 * sides).all()
    assert ((corners[:, :, 1] - high).abs() <= 0.081 * sides).all()


def test_a_box_of_a_known_mask():
    mask = torch.zeros(1, 1, 10, 20, dtype=torch.bool)
    mask[0, 0, 2:5, 4:10] = True
    low, high = boxes_of(mask)
    assert low[0, 0].tolist() == pytest.approx([-0.6, -0.6])
    assert high[0, 0].tolist() == pytest.approx([0.0, 0.0])


def test_a_correction_points_at_what_is_wrong(pairs):
    tasks = draw_tasks(Draw(4), pairs, 8)
    nothing = torch.zeros_like(tasks.targets[:, :, 0])
    everything = torch.ones_like(nothing)
    for predicted, kind in ((nothing, net.POSITIVE), (everything, net.NEGATIVE)):
        again = corrected(Draw(0), tasks, predicted)
        asked = tasks.wanted[..., 0]
        assert (again.prompts.kinds[..., -1][asked] == kind).all()
        assert (again.prompts.kinds[..., -1][~asked] == net.NO_PROMPT).all()
    right = corrected(Draw(0), tasks, tasks.targets[:, :, 0])
    assert (right.prompts.kinds[..., -1] == net.NO_PROMPT).all()


def test_right_masks_cost_nothing_and_wrong_ones_much(tasks):
    truth = 20 * (2 * tasks.targets.float() - 1)
    iou = tasks.wanted.float()
    mask, error, reached = segmentation(truth, iou, tasks)
    assert mask < 1e-3
    assert error < 1e-4
    assert torch.equal(reached.amax(2) > 0.99, tasks.wanted.any(2))
    mask, error, _ = segmentation(-truth, iou, tasks)
    assert mask > 2
    assert error > 0.1


def test_one_of_three_masks_is_enough(tasks):
    truth = 20 * (2 * tasks.targets[:, :, :1].float() - 1)
    only_asked = Tasks(tasks.prompts, tasks.targets, tasks.wanted & torch.tensor([True, False, False]), tasks.is_box)
    mask, _, _ = segmentation(torch.cat([-truth, truth, -truth], 2), torch.zeros(*truth.shape[:2], 3), only_asked)
    assert mask < 1e-3


def test_the_losses_of_a_reduced_network_are_computed_in_full(monkeypatch):
    """In bfloat16 the sum over the background would swallow what is wrong inside, and training would learn that."""
    reduced: dict[str, list[bool]] = {"segmentation": [], "matching": []}

    def watched(loss, name: str):
        def call(*values):
            reduced[name].append(torch.is_autocast_enabled("cpu"))
            return loss(*values)

        return call

    for loss in (segmentation, matching):
        monkeypatch.setattr(loop, loss.__name__, watched(loss, loss.__name__))
    training = Training(replace(SHORT, precision="bfloat16"), size=TINY)
    training.step = 1  # every other step has a correction too
    training.advance()
    for name, states in reduced.items():
        assert states, f"{name} was not asked"
        assert not any(states), name


def place_code(pairs) -> torch.Tensor:
    """An embedding [2b, 64, y / 4, x / 4] that knows where in the scene each cell lies."""
    places = pairs.places.flatten(0, 1)[:, 2::4, 2::4]
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(2, 32, generator=generator) * 4
    angles = places @ waves
    return torch.nn.functional.normalize(torch.cat([angles.sin(), angles.cos()], -1).movedim(-1, 1), dim=1)


def test_an_embedding_of_places_matches_better_than_one_of_noise(pairs):
    known = matching(Draw(0), place_code(pairs), pairs)
    noise = torch.nn.functional.normalize(Draw(1).normal(12, 64, 16, 16), dim=1)
    unknown = matching(Draw(0), noise, pairs)
    for name in ("prototype", "region", "dense"):
        assert known[name] < 0.5 * unknown[name]


def test_a_prototype_is_the_mean_inside_the_region(pairs):
    """Of an embedding that is constant, all are that constant; one cell that differs is seen where it lies."""
    constant = torch.nn.functional.normalize(torch.ones(6, 2, 8, 16, 16), dim=2)
    prototypes, there = prototypes_of(constant, pairs)
    assert torch.allclose(prototypes[there], torch.full((8,), 8**-0.5), atol=1e-5)
    assert not there[:, :, 0].any()
    assert there[pairs.visible].all()


def test_muon_turns_a_gradient_into_an_even_step():
    """All singular values of the step are about the learning rate."""
    parameter = torch.nn.Parameter(torch.zeros(6, 2, 3, 3))
    parameter.grad = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([parameter], lr=0.1, weight_decay=0.0).step()
    values = torch.linalg.svdvals(parameter.detach().flatten(1))
    assert ((values > 0.06) & (values < 0.13)).all()


def losses(recipe: Recipe, steps: int) -> list[float]:
    training = Training(recipe, size=TINY)
    return [training.advance()["loss"] for _ in range(steps)]


def test_a_training_can_be_repeated():
    assert losses(SHORT, 4) == pytest.approx(losses(SHORT, 4), abs=1e-5)
    other = Recipe(**{**SHORT.__dict__, "seed": 1})
    assert losses(SHORT, 2) != pytest.approx(losses(other, 2), abs=1e-3)


def test_a_training_goes_on_where_it_stopped(tmp_path):
    whole = Training(SHORT, size=TINY)
    expected = [whole.advance()["loss"] for _ in range(5)]
    first = Training(SHORT, size=TINY)
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "checkpoint.pt")
    second = Training(SHORT, size=TINY)
    second.resume(tmp_path / "checkpoint.pt")
    assert second.step == 3
    assert [second.advance()["loss"] for _ in range(2)] == pytest.approx(expected[3:], abs=1e-5)
    with pytest.raises(UsageError, match="another network"):
        Training(SHORT).resume(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [b"", b"hi", None, [1]])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Training(SHORT, size=TINY).save(path) if content is None else torch.save(content, path)
        path.write_bytes(path.read_bytes()[: None if content else 5000])
    with pytest.raises(UsageError, match="damaged"):
        Training(SHORT, size=TINY).resume(path)


def test_a_training_goes_on_with_its_own_recipe(tmp_path):
    Training(SHORT, size=TINY).save(tmp_path / "checkpoint.pt")
    Training(replace(SHORT, steps=9), size=TINY).resume(tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="'seed' is 1"):
        Training(replace(SHORT, seed=1), size=TINY).resume(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    "options",
    [["--steps", "0"], ["--minutes", "0"], ["--prompts", "0"], ["--precision", "float8"], ["--device", "no-such"]],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, options, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "out"), *options])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("samreg: ")


def test_a_training_ends_with_weights_and_curves(tmp_path):
    recipe = replace(SHORT, steps=2, prompts=2)
    train(tmp_path, recipe)
    network, about, _ = load_network(tmp_path / "embedded.safetensors")
    assert about["steps"] == 2
    assert about["recipe"]["seed"] == 0
    assert network.size == net.Size()
    assert read_log(tmp_path / "log.jsonl")[-1]["step"] == 2
    assert "polyline" in (tmp_path / "curves.svg").read_text()
    train(tmp_path, recipe)  # is over already
    assert read_log(tmp_path / "log.jsonl")[-1]["step"] == 2
    train(tmp_path, replace(recipe, steps=3))
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3
    assert load_network(tmp_path / "embedded.safetensors")[1]["steps"] == 3


def test_a_log_that_is_cut_off_is_read(tmp_path):
    lines = [json.dumps({"step": n, "mask": 1 / n, "point_iou": 0.5}) for n in (1, 2)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 3, "ma']), encoding="utf-8")
    log = read_log(tmp_path / "log.jsonl")
    assert len(log) == 2
    assert "2 steps" in draw_curves(log)


def test_training_needs_torch_numpy_and_safetensors_alone():
    code = (
        "import sys, samreg.training.__main__\n"
        "heavy = {'monai', 'scipy', 'skimage', 'pydicom', 'SimpleITK', 'nibabel', 'transformers', 'yaml', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "bundle", timeout=120, check=True
    )
    assert run.stdout.strip() == "[]"
