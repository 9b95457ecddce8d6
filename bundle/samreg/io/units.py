"""Units of length in the headers of files."""

from __future__ import annotations

from samreg.errors import InputRefused

_NAMES = {
    1e-6: "nm nanometer nanometers nanometre nanometres",
    1e-3: "um µm μm micron microns micrometer micrometers micrometre micrometres",
    1.0: "mm millimeter millimeters millimetre millimetres",
    10.0: "cm centimeter centimeters centimetre centimetres",
    100.0: "dm decimeter decimeters decimetre decimetres",
    1000.0: "m meter meters metre metres",
    25.4: "in inch inches",
}
MM_PER_UNIT = {name: mm for mm, names in _NAMES.items() for name in names.split()}


def mm_per_unit(unit: str, source: str) -> float:
    """Millimetres of one unit of length, whatever its case.

    Args:
        unit: As the header states it ("um", "Micron", "mm").
        source: What states it, for the refusal ("the NRRD file").

    Raises:
        InputRefused: `unknown-unit` if it is none of length, or not known.

    Example:
        mm_per_unit("um", "the NRRD file")  # 0.001
    """
    known = MM_PER_UNIT.get(unit.strip().lower())
    if known is None:
        raise InputRefused(f"{source} states its lengths in '{unit}'", reason="unknown-unit")
    return known
