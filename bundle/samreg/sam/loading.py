"""A SAM model from local files: Hugging Face folders, and the authors' checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from samreg.sam import original_hq, original_mobile, original_sam, original_sam2
from samreg.sam.building import Plan, build, encoder_size
from samreg.sam.checkpoints import hash_of, read_tensors, refused, weights_files
from samreg.sam.family import Variant
from samreg.sam.folders import plan_of_folder
from samreg.sam.identify import claimed, confirmed


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that is ready to be used.

    Attributes:
        model: Of transformers (SamModel, SamHQModel, Sam2Model, EdgeTamModel or Sam3TrackerModel) in
            eval mode, float32, on the CPU, without gradients.
        variant: Its row of the family; the image size is the model's own.
        weights_hash: SHA-256 of the weights file; of all of them, one after the other, where a folder
            holds several.
    """

    model: Any
    variant: Variant
    weights_hash: str

    @property
    def patch_size(self) -> int:
        """Pixels of the model's input that a cell of the embedding covers along each axis."""
        return int(self.model.config.prompt_encoder_config.patch_size)


def load_sam(weights: str | Path, variant: str | None = None) -> Loaded:
    """A SAM model from local files; nothing is downloaded and no code in the files is run.

    Args:
        weights: A Hugging Face folder (config.json, and model.safetensors or pytorch_model.bin), or an
            original checkpoint (.pth, .pt, .safetensors).
        variant: Row of the family. None: told from the hash, else from the folder's samreg.json, else
            from the published name, else from the architecture.

    Raises:
        UsageError: The path does not exist, is damaged, is a pickled model, or holds another kind of
            model; the variant is unknown, or contradicts what the file holds.

    Example:
        >>> load_sam("sam_vit_b_01ec64.pth").variant.name  # doctest: +SKIP
        'sam-vit-b'
    """
    path = Path(weights)
    files = weights_files(path)
    digest = hash_of(files)
    claim = claimed(path, digest, variant)
    tensors = read_tensors(files)
    plan = plan_of_folder(path, tensors) if path.is_dir() else _plan_of_original(path, tensors, claim[0])
    model = build(plan, path)
    row = confirmed(path, claim, plan.architecture, encoder_size(plan.architecture, model))
    size = int(model.config.prompt_encoder_config.image_size)
    return Loaded(model, replace(row, image_size=size), digest)


def _plan_of_original(file: Path, tensors: dict[str, Tensor], row: Variant | None) -> Plan:
    """The architecture, from the names and the shapes of the tensors.

    Args:
        file: For messages.
        tensors: Under their original names.
        row: Says the image size where the tensors do not; None: 1024, that of the general rows.
    """
    size = row.image_size if row else 1024
    try:
        if original_sam2.recognises(tensors):
            tensors = original_sam2.renamed(tensors)
            return Plan("sam2", original_sam2.config(tensors, size), tensors)
        if original_mobile.recognises(tensors):
            tensors = original_mobile.renamed(tensors)
            return Plan("mobile_sam", original_mobile.config(tensors, size), tensors)
        if original_hq.recognises(tensors):
            tensors = original_hq.renamed(tensors)
            return Plan("sam_hq", original_hq.config(tensors), tensors)
        tensors = original_sam.renamed(tensors)
        return Plan("sam", original_sam.config(tensors), tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise refused(file, f"is not an original checkpoint of the family ({error} not found)") from error
