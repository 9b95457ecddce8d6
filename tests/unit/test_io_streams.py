"""What compressed streams say of themselves."""

from io import BytesIO

import numpy as np
import PIL.Image
import pytest

from samreg.io.dicom_streams import stated_by


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG2000", {"no_jp2": True})], ids=str
)
def test_size_and_bits(kind, options):
    file = BytesIO()
    PIL.Image.fromarray(np.zeros((48, 70), np.uint8)).save(file, kind, **options)
    assert stated_by(file.getvalue()) == (70, 48, 8)
    assert stated_by(file.getvalue()[:20]) is None


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\0", b"\xff\x4f\xff\x51", bytes(100)])
def test_a_stream_that_says_nothing(stream):
    assert stated_by(stream) is None
