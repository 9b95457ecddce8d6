"""How a scene looks: intensities of its labels, textures, and what an imaging device makes of them.

No device is simulated; each family has the traits that a model must not mind (contrast, grain, blur, shading,
artefacts), drawn far wider than any device has them (the idea of SynthSeg; Billot et al., MedIA 86, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from samreg.training.synthesis.draw import Draw, sample
from samreg.training.synthesis.shapes import LABELS, Scene

AppearanceFamily = Literal["mr", "ct", "ultrasound", "pet", "stain", "fibres"]

SAME_CONTRAST = 0.5  # share of the pairs
MIN_CONTRAST = 0.15  # between a region and what it lies in
_GRAINS = (8, 20, 48)  # bumps of the textures along an axis
_QUANTILES = (0.005, 0.995)


def draw_appearance(
    draw: Draw, scene: Scene, places: Tensor, families: tuple[AppearanceFamily, ...], same_contrast: float
) -> tuple[Tensor, Tensor]:
    """Images of both views.

    Args:
        scene: Its labels.
        places: [b, 2, y, x, 2] of the pixels in the scene, which textures cling to.
        families: Each view is of one of them; both of the same, where they have the same contrast.
        same_contrast: Share of the pairs with the same contrast.

    Returns:
        float32 [b, 2, y, x], 0..1, and bool [b] whether the two have the same contrast.
    """
    batch = len(places)
    same = draw.chance(same_contrast, batch)
    kind = draw.integers(0, len(families), batch, 2)
    kind[:, 1] = torch.where(same, kind[:, 0], kind[:, 1])
    kind = kind.flatten()
    is_kind = {name: torch.zeros_like(kind, dtype=torch.bool) for name in AppearanceFamily.__args__}  # type: ignore[attr-defined]
    is_kind |= {name: kind == n for n, name in enumerate(families)}

    levels = _levels(draw, scene, same)
    levels = torch.where(is_kind["pet"].view(batch, 2, 1), levels**2.5, levels)
    classes = draw.integers(4, 9, batch, 2, 1)
    levels = torch.where(is_kind["ct"].view(batch, 2, 1), (levels * classes).round() / classes, levels)
    labels = scene.labels.flatten(0, 1)
    size = labels.shape[-1]
    image = levels.flatten(0, 1).gather(1, labels.flatten(1)).view_as(labels)
    image = image + _textures(draw, labels, places, same, is_kind)
    image = _optics(draw, image, is_kind)
    image = _shading(draw, image, is_kind)
    image = _noise(draw, image, is_kind)
    image = _resolution(draw, image)
    image = _range(draw, image, size)
    return image.view(batch, 2, size, size), same


def _levels(draw: Draw, scene: Scene, same: Tensor) -> Tensor:
    """[b, 2, LABELS] intensity of each label; the outside is dark, at times bright."""
    batch = len(same)
    first = _apart(draw, draw.uniform(0.1, 1, batch, LABELS), scene.parent)
    other = _apart(draw, draw.uniform(0.1, 1, batch, LABELS), scene.parent)
    # Another contrast of the same tissues: turned over, or bent by a curve, or without any relation.
    bend = draw.uniform(1.5, 5, batch, 1)
    curve = 0.55 + 0.45 * torch.sin(bend * (first - draw.uniform(0, 1, batch, 1)) * 2)
    how = draw.uniform(0, 1, batch, 1)
    second = torch.where(how < 0.2, 1.1 - first, torch.where(how < 0.45, curve, other))
    near = first + 0.03 * draw.normal(batch, LABELS)
    levels = torch.stack([first, torch.where(same[:, None], near, second)], 1)
    outside = torch.where(draw.chance(0.85, batch, 2), draw.uniform(0, 0.06, batch, 2), draw.uniform(0, 1, batch, 2))
    levels[:, :, 0] = outside
    levels[:, 1, 0] = torch.where(same, outside[:, 0], outside[:, 1])
    return levels


def _apart(draw: Draw, levels: Tensor, parent: Tensor) -> Tensor:
    """The levels [b, LABELS] with each at least MIN_CONTRAST from that of what it lies in."""
    away = draw.uniform(MIN_CONTRAST, 0.45, *levels.shape)
    for _ in range(3):  # parts of parts
        around = levels.gather(1, parent)
        up = torch.where(around < 0.55, away, -away)
        levels = torch.where((levels - around).abs() < MIN_CONTRAST, around + up, levels)
    return levels.clamp(0, 1.1)


def _textures(draw: Draw, labels: Tensor, places: Tensor, same: Tensor, is_kind: dict[str, Tensor]) -> Tensor:
    """[2b, y, x] grain of each label: clings to the scene; the same in both views of one contrast."""
    batch = len(places)
    flat = places.flatten(0, 1)
    strength = draw.uniform(0, 0.12, batch, 1, 1) * draw.chance(0.5, batch, len(_GRAINS), LABELS)
    again = draw.uniform(0, 0.12, batch, 1, 1) * draw.chance(0.5, batch, len(_GRAINS), LABELS)
    strength = torch.stack([strength, torch.where(same[:, None, None], strength, again)], 1).flatten(0, 1)
    strength[:, :, 0] *= draw.chance(0.2, 2 * batch, 1)
    out = torch.zeros(labels.shape, device=labels.device)
    for n, bumps in enumerate(_GRAINS):
        grain = sample(draw.field(batch, 1, bumps).repeat_interleave(2, 0), flat)[:, 0]
        if n == len(_GRAINS) - 1:  # nuclei: dark spots where the finest grain is high
            grain = torch.where(is_kind["stain"][:, None, None], -3 * (grain > 0.8).float(), grain)
        out += grain * strength[:, n].gather(1, labels.flatten(1)).view_as(labels)
    return out + _stripes(draw, labels, flat, is_kind["fibres"])


def _stripes(draw: Draw, labels: Tensor, places: Tensor, where: Tensor) -> Tensor:
    """[2b, y, x] fibres: each label has stripes of its own direction and width."""
    if not where.any():
        return torch.zeros(labels.shape, device=labels.device)
    count = len(labels)
    angle = draw.uniform(0, math.pi, count, LABELS)
    wave = draw.uniform(25, 75, count, LABELS)
    height = draw.uniform(0.03, 0.15, count, LABELS)
    height[:, 0] = 0
    index = labels.flatten(1)
    angle, wave, height = (v.gather(1, index).view_as(labels) for v in (angle, wave, height))
    bent = 0.02 * sample(draw.field(count, 1, 6), places)[:, 0]
    along = (places[..., 0] * angle.cos() + places[..., 1] * angle.sin() + bent) * wave
    return along.sin() * height * where[:, None, None]


def _optics(draw: Draw, image: Tensor, is_kind: dict[str, Tensor]) -> Tensor:
    """Blur, stronger for PET; in ultrasound interfaces shine."""
    count = len(image)
    edges = max_pool2d(image[:, None], 3, 1, 1)[:, 0] + max_pool2d(-image[:, None], 3, 1, 1)[:, 0]
    shine = is_kind["ultrasound"] * draw.uniform(0, 1, count)
    image = image + shine[:, None, None] * edges
    scale = image.shape[-1] / 128
    sigma = torch.where(
        is_kind["pet"][:, None], draw.uniform(1, 2.2, count, 1), draw.log_uniform(0.3, 1.2, count, 1)
    ) * draw.uniform(0.7, 1.3, count, 2)
    return _filtered(image, lambda fy, fx: _gauss(fy, fx, sigma * scale))


def _shading(draw: Draw, image: Tensor, is_kind: dict[str, Tensor]) -> Tensor:
    """Slow change of the brightness; ultrasound grows dark with depth and behind what it does not pass."""
    count, size = len(image), image.shape[-1]
    line = torch.linspace(-1, 1, size, device=image.device)
    here = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).expand(count, -1, -1, -1)
    strength = torch.where(is_kind["ct"], 0.02, draw.uniform(0, 0.35, count))
    bias = sample(draw.field(count, 1, 4), here)[:, 0] * strength[:, None, None]
    echo = is_kind["ultrasound"][:, None, None]
    depth = -draw.uniform(0, 0.8, count, 1, 1) * (here[..., 1] + 1) / 2
    across = sample(draw.field(count, 1, 10), here)[:, 0, :1]
    start = draw.uniform(-0.5, 0.5, count, 1, 1)
    shadow = (across > 1.3).float() * (here[..., 1] > start) * draw.uniform(0, 1.5, count, 1, 1)
    return image * (bias + echo * (depth - shadow)).exp()


def _noise(draw: Draw, image: Tensor, is_kind: dict[str, Tensor]) -> Tensor:
    """Rician in MR, speckle in ultrasound, counts in PET, grainy and streaked in CT."""
    count = len(image)
    sigma = draw.log_uniform(0.005, 0.07, count)[:, None, None]
    white, other = draw.normal(*image.shape), draw.normal(*image.shape)

    rician = ((image + sigma * white).square() + (sigma * other).square()).sqrt()
    counts = image + 2 * sigma * image.clamp_min(0).sqrt() * white
    width = draw.uniform(0.3, 1.1, count, 1) * torch.tensor([0.6, 1.4], device=image.device)
    real, imaginary = (_filtered(v, lambda fy, fx: _gauss(fy, fx, width)) for v in (white, other))
    speckle = (real.square() + imaginary.square()).sqrt()
    speckle = speckle / speckle.mean((1, 2), keepdim=True)
    depth = draw.uniform(0.15, 0.6, count, 1, 1)
    echo = image * (1 - depth + depth * speckle)
    streaks = _streaks(draw, image)
    out = image + sigma * white
    for name, noisy in (("mr", rician), ("pet", counts), ("ultrasound", echo), ("ct", out + streaks)):
        out = torch.where(is_kind[name][:, None, None], noisy, out)
    return out


def _streaks(draw: Draw, image: Tensor) -> Tensor:
    """[n, y, x] bright and dark rays out of a point, as metal casts them in CT; in one image of four."""
    count, size = len(image), image.shape[-1]
    line = torch.linspace(-1, 1, size, device=image.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    centre = draw.uniform(-0.7, 0.7, count, 2)[..., None, None]
    angle = torch.atan2(y - centre[:, 1], x - centre[:, 0])
    waves = draw.integers(4, 14, count, 1, 1).float()
    rays = (waves * angle + draw.uniform(0, 6, count, 1, 1)).cos() ** 5
    near = (-2 * ((y - centre[:, 1]) ** 2 + (x - centre[:, 0]) ** 2).sqrt()).exp()
    return rays * near * (draw.chance(0.25, count) * draw.uniform(0, 0.25, count))[:, None, None]


def _resolution(draw: Draw, image: Tensor) -> Tensor:
    """Some images are of few pixels along one axis or both, with ringing where the spectrum is cut off (Gibbs)."""
    count = len(image)
    coarse = draw.chance(0.35, count, 1)
    limit = torch.where(coarse, draw.uniform(0.18, 0.5, count, 2), torch.full((count, 2), 0.75, device=image.device))
    soft = torch.where(draw.chance(0.5, count), 40.0, 12.0)[:, None, None]

    def low_pass(fy: Tensor, fx: Tensor) -> Tensor:
        return torch.sigmoid(soft * (limit[:, :1, None] - fy.abs())) * torch.sigmoid(soft * (limit[:, 1:, None] - fx))

    return _filtered(image, low_pass)


def _range(draw: Draw, image: Tensor, size: int) -> Tensor:
    """Robust range of the image to 0..1, as images are read; then gamma, and at times not the full range."""
    count = len(image)
    flat = image.flatten(1)
    values = flat[:, :: max(1, flat.shape[1] // 4096)].sort(1).values
    low, high = (values[:, int(q * (values.shape[1] - 1)), None, None] for q in _QUANTILES)
    image = ((image - low) / (high - low).clamp_min(1e-3)).clamp(0, 1)
    image = image ** draw.log_uniform(0.6, 1.6, count, 1, 1)
    part = draw.chance(0.25, count)[:, None, None]  # a slice need not have the brightest of its volume
    darker = image * draw.uniform(0.5, 1, count, 1, 1)
    # Part of the field of view may be missing, and an image that is not square has one empty side.
    line = (torch.arange(size, device=image.device) + 0.5) / size
    cut = draw.uniform(0, 0.15, count, 4) * draw.chance(0.2, count, 1)
    longer = draw.integers(0, 2, count)[:, None] * 2 + 1 == torch.arange(4, device=image.device)
    cut = torch.where(longer & draw.chance(0.25, count, 1), draw.uniform(0, 0.4, count, 1), cut)
    y = (line > cut[:, :1]) & (line < 1 - cut[:, 1:2])
    x = (line > cut[:, 2:3]) & (line < 1 - cut[:, 3:])
    return torch.where(part, darker, image) * (y[:, :, None] & x[:, None])


def _gauss(fy: Tensor, fx: Tensor, sigma: Tensor) -> Tensor:
    """Transfer function of Gaussians, sigma [n, 2] in pixels along y and x."""
    scaled = (fy * sigma[:, :1, None]).square() + (fx * sigma[:, 1:, None]).square()
    return (-2 * (math.pi / 2) ** 2 * scaled).exp()


def _filtered(image: Tensor, transfer: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Images [n, y, x] times a transfer function of the frequencies, 1 being the highest; beyond the edge mirrored."""
    size = image.shape[-1]
    margin = 8
    padded = torch.nn.functional.pad(image[:, None], (margin,) * 4, mode="reflect")[:, 0]
    full = padded.shape[-1]
    fy = torch.fft.fftfreq(full, device=image.device)[:, None] * 2
    fx = torch.fft.rfftfreq(full, device=image.device)[None] * 2
    spectrum = torch.fft.rfft2(padded) * transfer(fy, fx)
    return torch.fft.irfft2(spectrum, s=(full, full))[:, margin : margin + size, margin : margin + size]
