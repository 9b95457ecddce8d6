"""The table of the files that samreg writes. Writers, output folder, operators and reference read it.

A new file is a row in `table` and its writer. Nothing heavy is imported before a row is written.
"""

from samreg.artefacts.parts import is_part, part_and_object, part_name
from samreg.artefacts.row import Artefact, Condition
from samreg.artefacts.table import DICOM, OBJECTS, OF_LOCATE, OF_REGISTER, of_step, write_document

__all__ = [
    "DICOM",
    "OBJECTS",
    "OF_LOCATE",
    "OF_REGISTER",
    "Artefact",
    "Condition",
    "is_part",
    "of_step",
    "part_and_object",
    "part_name",
    "write_document",
]
