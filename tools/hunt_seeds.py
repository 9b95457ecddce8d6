"""Sound files in every format that is read, for `hunt.py`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SHAPE = (40, 36, 4)  # JPEG 2000 needs 32 pixels
SUFFIXES = {  # what a given file is read as, and where its fields stand
    ".nii": ("image", "nifti"), ".nii.gz": ("image", "nifti.gz"), ".nrrd": ("image", "text"),
    ".nhdr": ("image", "text"), ".mha": ("image", "text"), ".mhd": ("image", "text"), ".png": ("image", "png"),
    ".tif": ("image", "tiff"), ".tiff": ("image", "tiff"), ".jpg": ("image", "jpeg"), ".jpeg": ("image", "jpeg"),
    ".dcm": ("image", "dicom"), ".tfm": ("transform", "text"), ".txt": ("transform", "text"),
    ".mat": ("transform", ""), ".h5": ("transform", ""), ".csv": ("points", "text"), ".yaml": ("configuration", "text"),
}  # fmt: skip
SEALED = ("nifti.gz", "png")  # every byte is under a checksum


@dataclass(frozen=True)
class Seed:
    """A sound input.

    Attributes:
        format: As the table names it.
        folder: All its files, and nothing else.
        entry: What is read, relative to the folder; "." for a series.
        reads: Key of `hunt.READERS`.
        family: Of its fields (`mutations.FIELDS`).
        reference: The image that a label map belongs to.
    """

    format: str
    folder: Path
    entry: str
    reads: str = "image"
    family: str = ""
    reference: Path | None = field(default=None)

    @property
    def sealed(self) -> bool:
        """Whether a changed byte can always be told."""
        return self.family in SEALED


def seeds_of(paths: Iterable[Path], folder: Path) -> list[Seed]:
    """Given files, each copied into a folder of its own, and folders as DICOM series.

    Raises:
        SystemExit: A file of no known format.
    """
    found = []
    for number, path in enumerate(paths, 1):
        name, shown = path.name.lower(), f"{number} {path.name}"
        if path.is_dir():
            found.append(Seed(shown, path, ".", "image", "dicom"))
            continue
        suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), None)
        if suffix is None:
            raise SystemExit(f"{path} is none of {' '.join(SUFFIXES)}")
        place = folder / str(number)
        if suffix in (".nhdr", ".mhd"):  # with the data beside it
            shutil.copytree(path.parent, place)
        else:
            place.mkdir()
            shutil.copyfile(path, place / path.name)
        found.append(Seed(shown, place, path.name, *SUFFIXES[suffix]))
    return found


def write_seeds(folder: Path, only: Iterable[str] = ()) -> list[Seed]:
    """Small files in every format.

    Args:
        only: Formats (parts of their names) that are wanted; none: all.
    """
    made: list[Seed] = []
    wanted = tuple(only)
    for name, (entry, reads, family, write) in FORMATS.items():
        if wanted and not any(part in name for part in wanted):
            continue
        place = folder / name.replace(" ", "-").replace(".", "")
        place.mkdir(parents=True)
        write(place if entry == "." else place / entry)
        reference = place.parent / "series" if reads == "labels" else None
        if reference is not None:
            place.joinpath("series").rename(reference)
        made.append(Seed(name, place, entry, reads, family, reference))
    return made


def _voxels(dtype: str = "int16") -> np.ndarray:
    i, j, k = np.indices(SHAPE)
    ripple = np.random.default_rng(0).integers(0, 60, SHAPE)
    return (20 * np.hypot(i - 20, j - 15) + 20 * k + ripple).clip(0, 250 if dtype == "uint8" else 900).astype(dtype)


def _nifti(path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(_voxels(), np.diag([1.5, 1.5, 4, 1]))
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _displacement(path: Path) -> None:
    from samreg.transforms import write_displacement_nifti

    write_displacement_nifti(_field(), _field().grid, path)


def _itk(packed: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import SimpleITK

        image = SimpleITK.GetImageFromArray(_voxels().T)
        image.SetSpacing((1.5, 1.5, 4.0))
        image.SetOrigin((-10.0, 5.0, 30.0))
        SimpleITK.WriteImage(image, str(path), packed)

    return write


def _picture(dtype: str = "uint8", **options: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import PIL.Image

        PIL.Image.fromarray(np.tile(_voxels(dtype)[:, :, 0].T, (3, 3))).save(path, **options)

    return write


def _series(syntax: str = "") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from pydicom import dcmread
        from pydicom.uid import UID

        for file in _write_series(folder):
            if syntax:
                dataset = dcmread(file)
                dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0
                dataset.compress(UID(syntax), generate_instance_uid=False)
                dataset.save_as(file)

    return write


def _write_series(folder: Path) -> list[Path]:
    from samreg.geometry import Grid, Volume
    from samreg.phantoms import write_dicom_series

    grid = Grid.from_axes(SHAPE, (1.5, 1.5, 4.0), (-10.0, 5.0, 30.0))
    return write_dicom_series(Volume(_voxels("float32"), grid, modality="MR"), folder)


def _enhanced(path: Path) -> None:
    import highdicom as hd
    from pydicom import dcmread

    files = _write_series(path.parent / "classic")
    slices = [dcmread(file) for file in files]
    uid, number = hd.UID(), 1
    hd.legacy.LegacyConvertedEnhancedMRImage(slices, uid, number, hd.UID(), number).save_as(path)
    for file in files:
        file.unlink()
    files[0].parent.rmdir()


def _segmentation(path: Path) -> None:
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    images = [dcmread(file) for file in _write_series(path.parent / "series")]
    part = hd.seg.SegmentDescription(
        1, "organ", codes.SCT.Organ, codes.SCT.Liver, hd.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    masks = (_voxels() > 300).transpose(2, 1, 0)
    hd.seg.Segmentation(
        images, masks, hd.seg.SegmentationTypeValues.BINARY, [part], hd.UID(), 2, hd.UID(), 1, "a", "b", "1", "2"
    ).save_as(path)


def _field():
    from samreg.geometry import Grid
    from samreg.transforms import DisplacementField

    grid = Grid.from_axes((6, 5, 4), (8.0, 8.0, 10.0), (-20.0, -20.0, -20.0))
    return DisplacementField(grid, np.random.default_rng(0).normal(0, 0.5, (6, 5, 4, 3)).astype(np.float32))


def _linear(path: Path) -> None:
    import SimpleITK

    turn = SimpleITK.Euler3DTransform((1.0, 2.0, 3.0), 0.1, -0.2, 0.3, (4.0, 5.0, 6.0))
    SimpleITK.WriteTransform(turn, str(path))


def _composite(path: Path) -> None:
    from samreg.transforms import Affine, Composite, write_transform

    matrix = np.eye(4)
    matrix[:3] += np.random.default_rng(0).normal(0, 0.05, (3, 4))
    write_transform(Composite((Affine(matrix), _field())), path)


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text, encoding="utf-8") and None


def _pairs(path: Path) -> None:
    for name in ("a.nii", "b.nii", "a_labels.nii", "b_labels.nii"):
        (path.parent / name).touch()
    rows = ["name,fixed,moving,fixed_labels,moving_labels,pixel_spacing"]
    rows += [f"pair {n},a.nii,b.nii,a_labels.nii,b_labels.nii,0.5 0.5" for n in range(3)]
    path.write_text("\n".join(rows) + "\n")


def _configuration(path: Path) -> None:
    import yaml

    from samreg.config import Config

    path.write_text(yaml.safe_dump(json.loads(json.dumps(Config().as_dict()))), encoding="utf-8")


_LANDMARKS = "name,x,y,z,remark\n" + "".join(f"p{n},{n}.5,{-2 * n},{3 * n}e0,some\n" for n in range(6))
# Format → the file (or "." for a folder), how it is read, where its fields stand, what writes it.
FORMATS: dict[str, tuple[str, str, str, Callable[[Path], None]]] = {
    "NIfTI": ("a.nii", "image", "nifti", _nifti),
    "NIfTI gzip": ("a.nii.gz", "image", "nifti.gz", _nifti),
    "NRRD raw": ("a.nrrd", "image", "text", _itk(False)),
    "NRRD gzip": ("a.nrrd", "image", "text", _itk(True)),
    "NRRD detached": ("a.nhdr", "image", "text", _itk(False)),
    "MetaImage": ("a.mha", "image", "text", _itk(False)),
    "MetaImage zlib": ("a.mha", "image", "text", _itk(True)),
    "MetaImage detached": ("a.mhd", "image", "text", _itk(False)),
    "PNG": ("a.png", "image", "png", _picture()),
    "PNG 16 bits": ("a.png", "image", "png", _picture("uint16")),
    "TIFF": ("a.tif", "image", "tiff", _picture("uint16")),
    "TIFF deflate": ("a.tif", "image", "tiff", _picture(compression="tiff_adobe_deflate")),
    "TIFF LZW": ("a.tif", "image", "tiff", _picture(compression="tiff_lzw")),
    "JPEG": ("a.jpg", "image", "jpeg", _picture()),
    "DICOM": (".", "image", "dicom", _series()),
    "DICOM RLE": (".", "image", "dicom", _series("1.2.840.10008.1.2.5")),
    "DICOM JPEG-LS": (".", "image", "dicom", _series("1.2.840.10008.1.2.4.80")),
    "DICOM JPEG 2000": (".", "image", "dicom", _series("1.2.840.10008.1.2.4.90")),
    "DICOM enhanced": ("a.dcm", "image", "dicom", _enhanced),
    "DICOM SEG": ("seg.dcm", "labels", "dicom", _segmentation),
    "transform .tfm": ("a.tfm", "transform", "text", _composite),
    "transform .txt": ("a.txt", "transform", "text", _linear),
    "transform .mat": ("a.mat", "transform", "", _linear),
    "transform .h5": ("a.h5", "transform", "", _composite),
    "displacement NIfTI": ("a.nii", "transform", "nifti", _displacement),
    "displacement NIfTI gzip": ("a.nii.gz", "transform", "nifti.gz", _displacement),
    "points": ("a.csv", "points", "text", _text(_LANDMARKS)),
    "configuration": ("a.yaml", "configuration", "text", _configuration),
    "pairs": ("pairs.csv", "pairs", "text", _pairs),
}
