"""Training of the embedded model. Needs torch, numpy and safetensors, nothing else."""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from samreg.device import find_device
from samreg.embedded.files import save_network
from samreg.embedded.network import EmbeddedNetwork, FeatureMaps, Queries, Size, mask_logits
from samreg.errors import UsageError
from samreg.training.losses import matching, segmentation
from samreg.training.muon import Muon
from samreg.training.pictures import draw_curves, read_log
from samreg.training.prompting import Tasks, corrected, draw_tasks
from samreg.training.synthesis.draw import Draw
from samreg.training.synthesis.generator import Pairs, Synthesis
from samreg.whole_files import whole_file

logger = logging.getLogger(__name__)

PRECISIONS = ("bfloat16", "float32")
_WARM_UP = 200  # steps
_LEVEL = 0.2  # first share of the training, before the learning rate falls
_LOG_EVERY = 20  # steps
# What reads pixels, tables of tokens, and what gives the results: their size matters, not their direction alone.
_NOT_HIDDEN = (
    *("stem", "position", "pixels", "matching.3"),
    *("decoder.position", "decoder.masks", "decoder.kinds", "decoder.to_", "decoder.alike"),
)


@dataclass(frozen=True)
class Recipe:
    """All that decides a training.

    Attributes:
        steps: The training ends after so many, ...
        minutes: ... or after this time in all, resumed runs included; None: steps alone. The learning rate follows
            whichever is nearer to its end, so only a training by steps alone can be repeated exactly.
        seed: Of the network and of the data.
        pixels: Of the images of one step together, pairs of 128 x 128 x 2 x 8 by default.
        sizes: Sides of the images and how often each is drawn.
        prompts: Of each image.
        matrix_rate, vector_rate: Learning rates, at the most: of Muon for matrices and filters, and of AdamW for
            biases, scales, tokens, the stem and the heads.
        average: Decay of the moving average of the weights.
        precision: "bfloat16" or "float32".
        matching_weight, dense_weight: Of the contrastive terms of regions, and of points, beside the segmentation.

    Raises:
        UsageError: Nothing can be trained so.
    """

    steps: int = 20_000
    minutes: float | None = None
    seed: int = 0
    pixels: int = 128 * 128 * 16
    sizes: tuple[tuple[int, float], ...] = ((96, 0.2), (128, 0.5), (192, 0.2), (256, 0.1))
    prompts: int = 12
    matrix_rate: float = 0.01
    vector_rate: float = 1e-3
    average: float = 0.999
    precision: str = "bfloat16"
    matching_weight: float = 0.5
    dense_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "prompts", "pixels"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"'{name}' is {value}", "more than 0")
        if self.precision not in PRECISIONS:
            raise UsageError(f"the precision is {self.precision!r}", " or ".join(PRECISIONS))


class Training:
    """A network on its way.

    Args:
        recipe: What to do.
        device: Where.
        synthesis: What to learn from.
        size: Of the network.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device | str = "cpu",
        synthesis: Synthesis | None = None,
        size: Size | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.synthesis = synthesis or Synthesis()
        torch.manual_seed(recipe.seed)
        self.network = EmbeddedNetwork(size).to(self.device)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizers = _optimizers(self.network, recipe)
        self.step = 0
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        done = self.step / self.recipe.steps
        if self.recipe.minutes:
            done = max(done, self.seconds / (60 * self.recipe.minutes))
        return min(1.0, done)

    def advance(self) -> dict[str, float]:
        """One step; its losses and scores."""
        started = time.perf_counter()
        progress = self.progress
        share = _rate(self.step, progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * share
        draw = Draw.numbered(self.recipe.seed, self.step, self.device)
        size = self._size(draw)
        pairs = self.synthesis.draw(draw, max(1, self.recipe.pixels // (2 * size * size)), size)
        terms, scores = self._losses(draw, pairs)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if loss.isfinite() and norm.isfinite():
            for optimizer in self.optimizers:
                optimizer.step()
        else:
            logger.warning("step %d left out: its loss or gradient is not finite", self.step)
        self._average()
        self.step += 1
        self.seconds += time.perf_counter() - started
        return {"loss": loss.item(), **{k: v.item() for k, v in terms.items()}, **scores}

    def _losses(self, draw: Draw, pairs: Pairs) -> tuple[dict[str, Tensor], dict[str, float]]:
        tasks = draw_tasks(draw, pairs, self.recipe.prompts)
        with self._precision():
            encoded = self.network.encode(pairs.images.flatten(0, 1)[:, None])
        queries, logits = self._answers(encoded, tasks)
        masks, expected, reached = segmentation(logits, queries.iou, tasks)
        terms = {"mask": masks, "iou": expected}
        if self.step % 2:
            terms["correction"] = 0.5 * self._correction(draw, encoded, logits, reached, tasks)
        for name, term in matching(draw, encoded.embedding, pairs).items():
            terms[name] = term * (self.recipe.dense_weight if name == "dense" else self.recipe.matching_weight)
        return terms, _scores(reached, tasks)

    def _precision(self) -> torch.autocast:
        """Of the network alone: losses, differences of large sums, would be lost in bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def _answers(self, encoded: FeatureMaps, tasks: Tasks) -> tuple[Queries, Tensor]:
        """Queries of the prompts, and the logits of their masks."""
        with self._precision():
            queries = self.network.decode(encoded, tasks.prompts)
            return queries, mask_logits(encoded.pixels, queries)

    def _correction(self, draw: Draw, encoded: FeatureMaps, logits: Tensor, reached: Tensor, tasks: Tasks) -> Tensor:
        """Loss of the masks after one more click where the best was wrong."""
        best = reached.argmax(2)[..., None, None, None].expand(-1, -1, 1, *logits.shape[3:])
        again = corrected(draw, tasks, logits.detach().gather(2, best)[:, :, 0] > 0)
        queries, logits = self._answers(encoded, again)
        masks, expected, _ = segmentation(logits, queries.iou, again)
        return masks + expected

    def _size(self, draw: Draw) -> int:
        sizes = self.recipe.sizes
        weights = torch.tensor([weight for _, weight in sizes], device=self.device)
        return sizes[int(torch.multinomial(weights, 1, generator=draw.generator))][0]

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def save(self, path: Path) -> None:
        """Writes all that `resume` needs."""
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with whole_file(path) as part:
            torch.save(state, part)

    def about(self) -> dict[str, Any]:
        """How the weights came about, for their file."""
        return {
            "steps": self.step,
            "minutes": round(self.seconds / 60, 1),
            "device": str(self.device),
            "torch": torch.__version__,
            "recipe": asdict(self.recipe),
            "shapes": self.synthesis.shapes,
            "appearances": self.synthesis.appearances,
        }

    def resume(self, path: Path) -> None:
        """Goes on from a file of `save`.

        Raises:
            UsageError: It is damaged, of another network, or of another recipe.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            kept = state["recipe"]
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            for optimizer, moments in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(moments)
        except (
            OSError,
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,
            ValueError,
            EOFError,
            UnpicklingError,
        ) as error:
            raise UsageError(
                f"'{path}' is damaged or of another network",
                "a checkpoint of this one",
                "Give another folder to start anew.",
            ) from error
        for name, value in asdict(self.recipe).items():
            if name not in ("steps", "minutes") and kept.get(name) != value:
                raise UsageError(
                    f"'{name}' is {value} in a training that goes on from '{path}'",
                    f"{kept.get(name)}, as it began",
                    "Give another folder to start anew.",
                )
        self.step, self.seconds = state["step"], state["seconds"]


def _optimizers(network: EmbeddedNetwork, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for what multiplies hidden channels, AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        hidden = parameter.ndim >= 2 and not name.endswith("bias") and not name.startswith(_NOT_HIDDEN)
        (matrices if hidden else others).append(parameter)
    adam = torch.optim.AdamW(others, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return Muon(matrices, lr=recipe.matrix_rate), adam


def _rate(step: int, progress: float) -> float:
    """Share of the greatest learning rate: up, level, and down to a hundredth."""
    return min(1.0, (step + 1) / _WARM_UP) * min(1.0, max(0.01, (1 - progress) / (1 - _LEVEL)))


def _scores(reached: Tensor, tasks: Tasks) -> dict[str, float]:
    """Mean IoU of the best of three masks, by points and by boxes."""
    asked = tasks.wanted[..., 0]
    best = reached.amax(2)
    out = {}
    for name, chosen in (("point_iou", asked & ~tasks.is_box), ("box_iou", asked & tasks.is_box)):
        out[name] = best[chosen].mean().item() if chosen.any() else float("nan")
    return out


def train(out: str | Path, recipe: Recipe | None = None, device: str = "cpu", save_minutes: float = 5) -> Training:
    """Trains, or goes on, until the recipe's end.

    Args:
        out: Folder for `checkpoint.pt`, `log.jsonl`, `curves.svg`, and in the end `embedded.safetensors`.
        recipe: See `Recipe`.
        device: "cpu", "cuda".
        save_minutes: Time between checkpoints.

    Raises:
        UsageError: The folder, the device, or a checkpoint in the folder cannot be used.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is a file", "a folder")
    out.mkdir(parents=True, exist_ok=True)
    training = Training(recipe or Recipe(), find_device(device))
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.resume(checkpoint)
        logger.info("going on from step %d", training.step)
    saved = time.monotonic()
    kept: list[dict[str, float]] = []
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        while training.progress < 1:
            kept.append(training.advance())
            if len(kept) == _LOG_EVERY or training.progress == 1:
                line = {"step": training.step, "minutes": training.seconds / 60, **_means(kept)}
                log.write(json.dumps({k: round(v, 5) for k, v in line.items()}) + "\n")
                log.flush()
                logger.info("%s", json.dumps({k: round(v, 3) for k, v in line.items()}))
                kept = []
            if time.monotonic() - saved > 60 * save_minutes:
                training.save(checkpoint)
                saved = time.monotonic()
    training.save(checkpoint)
    (out / "curves.svg").write_text(draw_curves(read_log(out / "log.jsonl")), encoding="utf-8")
    save_network(training.averaged, out / "embedded.safetensors", training.about())
    return training


def _means(lines: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for line in lines for name in line)
    out = {}
    for name in names:
        values = torch.tensor([line[name] for line in lines if name in line])
        out[name] = values.nanmean().item()
    return out
