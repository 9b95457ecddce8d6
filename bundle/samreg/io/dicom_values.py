"""Do the values of all slices mean the same? From headers alone."""

from __future__ import annotations

from collections.abc import Sequence

from samreg.errors import InputRefused
from samreg.io.dicom_folder import count
from samreg.io.dicom_frames import VARIANTS, Frame
from samreg.io.dicom_headers import number
from samreg.refusals.series import SPLIT

# Words of ImageType and of ComplexImageComponent, before any "_" ("P_FFE").
COMPLEX = {
    **dict.fromkeys(("M", "MAGNITUDE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
}


def check_values_alike(frames: Sequence[Frame]) -> None:
    """The values of all slices must mean the same, or the volume has stripes.

    Raises:
        InputRefused: `mixed-rescale`.
    """
    without = sum(not f.rescaled for f in frames)
    if 0 < without < len(frames) and any((f.slope, f.intercept) != (1.0, 0.0) for f in frames):
        raise mixed(
            "mixed-rescale",
            f"{count(len(frames) - without, 'image')} with and {count(without, 'image')} without a rescale of values",
            "a Rescale Slope and Intercept in each image, or in none",
        )
    units = sorted({f.units for f in frames} - {""})
    if len(units) > 1:
        raise mixed("mixed-rescale", f"values in {len(units)} units (Rescale Type, Units)", "one unit of values", SPLIT)


def check_one_contrast(frames: Sequence[Frame]) -> None:
    """What a 4D series has at each place may also lie between each other, and then looks like one volume.

    Raises:
        InputRefused: `mixed-contrast`.
    """
    for keyword in ("DiffusionBValue", "EchoNumbers"):
        values = {f.variants.get(keyword, "") for f in frames} - {""}
        if len(values) > 1:
            raise mixed("mixed-contrast", f"{len(values)} values of {VARIANTS[keyword]}", "one value")
    kinds = {kind for f in frames for kind in (_complex_kind(f),) if kind}
    if len(kinds) > 1:
        raise mixed("mixed-contrast", f"{' and '.join(sorted(kinds))} images", "one kind")


def _complex_kind(frame: Frame) -> str:
    """Which part of a complex MR image this is, as far as its image type says."""
    said = "\\".join(frame.variants.get(k, "") for k in ("ComplexImageComponent", "FrameType", "ImageType"))
    words = [word.split("_")[0] for word in said.upper().split("\\")]
    kinds = {COMPLEX[word] for word in words if word in COMPLEX}
    return kinds.pop() if len(kinds) == 1 else ""


def bits_agree(frame: Frame) -> bool:
    """High Bit is one less than Bits Stored (PS3.5 8.1.1); decoders go by Bits Stored alone."""
    stored, high = number(frame.header, "BitsStored"), number(frame.header, "HighBit")
    return stored is None or high is None or high == stored - 1


def mixed(reason: str, got: str, expected: str = "", next_step: str = "") -> InputRefused:
    """Images in one series that are not of one volume."""
    return InputRefused(f"the series mixes {got}", expected, next_step, reason=reason)
