"""Images that dcmtk and pydicom encoded, in the transfer syntaxes that the conformance statement names."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import HTJ2K, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGLSNearLossless

from samreg.io import read_image
from samreg.phantoms import write_dicom_series
from tests.dicom_series import edit, small_volume
from tests.orthanc import tool

EXACT = {
    "implicit-little-endian": ("dcmconv", "+ti"),
    "explicit-big-endian": ("dcmconv", "+tb"),
    "deflated": ("dcmconv", "+td"),
    "jpeg-lossless": ("dcmcjpeg", "+el"),
    "jpeg-lossless-first-order": ("dcmcjpeg", "+e1"),
}
LOSSY = {"jpeg-baseline": (8, "+eb"), "jpeg-extended": (12, "+ee")}


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Whole numbers of a smooth ramp, 0 to 1000."""
    volume = small_volume((40, 36, 4))
    volume.voxels[:] = np.linspace(0, 1000, 40, dtype=np.float32).round()[:, None, None]
    return write_dicom_series(volume, tmp_path / "series")


def stored(series: list[Path]) -> np.ndarray:
    return np.stack([dcmread(path).pixel_array for path in series]).astype(np.float32)


def read(series: list[Path]) -> np.ndarray:
    return read_image(series[0].parent).voxels.transpose(2, 1, 0)


def encode(series: list[Path], program: str, *options: str) -> None:
    for path in series:
        coded = path.with_suffix(".coded")
        subprocess.run([tool(program), *options, str(path), str(coded)], check=True, capture_output=True)
        coded.rename(path)


def narrow(series: list[Path], bits: int) -> None:
    """The same pixels, unsigned and in fewer bits."""
    for path in series:
        values = dcmread(path).pixel_array >> (10 - min(bits, 10))
        wide = bits > 8
        edit(
            path,
            PixelRepresentation=0,
            BitsAllocated=16 if wide else 8,
            BitsStored=bits,
            HighBit=bits - 1,
            PixelData=values.astype("<u2" if wide else "u1").tobytes(),
        )


@pytest.mark.parametrize("command", EXACT.values(), ids=EXACT.keys())
def test_lossless_images_are_read_to_the_last_value(series: list[Path], command: tuple[str, str]):
    expected = stored(series)
    encode(series, *command)
    np.testing.assert_array_equal(read(series), expected)


@pytest.mark.parametrize(("bits", "option"), LOSSY.values(), ids=LOSSY.keys())
def test_images_compressed_with_loss_are_read(series: list[Path], bits: int, option: str):
    narrow(series, bits)
    expected = stored(series)
    encode(series, "dcmcjpeg", option, "+q", "100")
    assert np.abs(read(series) - expected).max() <= 4


@pytest.mark.parametrize(
    ("syntax", "options"),
    [(JPEGLSNearLossless, {"jls_error": 2}), (JPEG2000, {"j2k_cr": [2]})],
    ids=["jpeg-ls", "jpeg-2000"],
)
def test_images_nearly_without_loss_are_read(series: list[Path], syntax: str, options: dict):
    narrow(series, 12)
    expected = stored(series)
    for path in series:
        edit(path, lambda image: image.compress(syntax, generate_instance_uid=False, **options))
    assert np.abs(read(series) - expected).max() <= 2


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL], ids=lambda uid: uid.keyword)
def test_htj2k_has_a_decoder(syntax):  # and no encoder, here
    assert get_decoder(syntax).is_available
