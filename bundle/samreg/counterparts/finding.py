"""The way from a prompt to its counterpart: by prompts in both images, or by a registration of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

import samreg
from samreg.counterparts import by_prompts, by_registration
from samreg.counterparts.located import Located
from samreg.counterparts.prompts import Box, GivenRoi, Point, Prompt
from samreg.device import within_memory
from samreg.geometry import Volume
from samreg.image_arguments import check_images
from samreg.pipeline import Tools
from samreg.result import RegistrationResult
from samreg.stopwatch import Progress
from samreg.threads import limited

PromptLike = Prompt | np.ndarray | Sequence[float]


def counterpart_of(
    fixed: Volume,
    moving: Volume,
    prompt: PromptLike,
    tools: Tools,
    register: Callable[[], RegistrationResult],
    on_progress: Progress | None = None,
) -> Located:
    """The region that a prompt means in the fixed image, and its counterpart in the moving one.

    With a promptable encoder (`encoder="sam"`) by prompts in both images: no everything mode, no
    registration (see `samreg.counterparts.by_prompts.counterpart`).

    With any other the images are registered. A point means the smallest paired region that it lies in; the
    confidence is that of the pair. A box or a given region is mapped by the transform. The runner-up is the
    region found in the moving image that overlaps it best, and its Dice the confidence: how far what was found
    there confirms the mapped region; 0 where nothing does. If the registration fails its gate, every
    confidence is 0.

    Args:
        fixed, moving: The images.
        prompt: `Point`, `Box` or `GivenRoi` in the fixed image, or a point as [3] LPS mm.
        tools: What to work with.
        register: Registers the two images with the same tools.
        on_progress: Called with the stage's name and its share done, 0..1.

    Raises:
        InputRefused: A prompt outside the image or on nothing, or no region that answers it.
        UsageError: There is not enough memory.
    """
    asked = prompt if isinstance(prompt, Point | Box | GivenRoi) else Point(np.asarray(prompt, np.float64))
    check_images(fixed, moving)
    _check_prompt(asked, fixed)
    config, encoder = tools.config, tools.encoder
    # The embedded model finds regions; to trust a counterpart it takes the evidence of a registration.
    slices = getattr(encoder, "slices", None) if config.encoder == "sam" else None
    if slices is None:
        found = by_registration.counterpart(register(), asked)
    else:
        report = (lambda share: on_progress("search", share)) if on_progress else None
        with within_memory(), limited(config.threads):
            found = by_prompts.counterpart(
                fixed, moving, asked, slices, config, calibration=encoder.calibration, on_progress=report
            )
    hashes = {
        "config": config.hash,
        "weights": encoder.weights_hash,
        "fixed": fixed.content_hash,
        "moving": moving.content_hash,
    }
    provenance = {
        "samreg": samreg.__version__,
        "encoder": config.encoder,
        "variant": encoder.variant,
        "precision": encoder.precision,
        "hashes": hashes,
    }
    return replace(found, provenance=provenance)


def _check_prompt(prompt: Prompt, fixed: Volume) -> None:
    """Refuse a prompt that does not fit the fixed image, before any work."""
    if isinstance(prompt, Point):
        prompt.ijk(fixed.grid)
    else:
        prompt.roi(fixed.grid)
