"""One file that samreg leaves: when it is written, by what, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from samreg.whole_files import whole_file

if TYPE_CHECKING:
    from samreg.result import RegistrationResult

Step = Literal["images", "dicom", "report", "run", "container", "locate"]


@dataclass(frozen=True)
class Condition:
    """What must hold for a file to be written.

    Attributes:
        text: A clause for the reference ("both images are DICOM series").
        holds: Of a result.
        otherwise: What the report says where it does not hold; empty: nothing.
    """

    text: str
    holds: Callable[[RegistrationResult], bool]
    otherwise: str = ""


@dataclass(frozen=True)
class Artefact:
    """One file.

    Attributes:
        key: Its name in the table, and in `objects` of report.json.
        path: In the folder of results, with "/".
        step: Who writes it: `samreg.outputs.write_images`, `write_dicom` or `write_reports`, `samreg.run` (of several
            registrations), the container, or `locate`.
        role: What it holds, one sentence for the reference.
        writer: "package.module:function", called with what the step hands over and the path to write. Images are
            handed a `samreg.outputs.Images`, objects a `samreg.dicom_out.objects.Objects`, the page a
            `samreg.outputs.Page`, documents a mapping, and answers of `locate` a `samreg.counterparts.Located`.
        verifier: The same, called with the path of what was written.
        when: Conditions, all of which must hold.
        grid: The image on whose grid it lies, if it is a NIfTI image.
        document: Says in JSON what the other files are; written last.

    Example:
        Artefact("contours", "dicom/contours.dcm", "dicom", "RT Structure Set: the paired regions",
                 "samreg.dicom_out.contours:write_contours", "samreg.dicom_out.contours:verify_contours", OBJECTS)
    """

    key: str
    path: str
    step: Step
    role: str
    writer: str
    verifier: str = ""
    when: tuple[Condition, ...] = ()
    grid: Literal["fixed", "moving"] | None = None
    document: bool = False

    @property
    def name(self) -> str:
        """The name of the file, without its folder."""
        return PurePosixPath(self.path).name

    @property
    def folder(self) -> str:
        """The sub-folder that it stands in; empty if there is none."""
        return "" if self.path == self.name else PurePosixPath(self.path).parent.as_posix()

    @property
    def listed(self) -> bool:
        """Whether report.json names it among its objects."""
        return self.step in ("images", "dicom", "report") and not self.document

    @property
    def functions(self) -> list[Callable[[Any, Path], object]]:
        """The writer, and the verifier if there is one."""
        return [_function(target) for target in (self.writer, self.verifier) if target]

    def unmet(self, result: RegistrationResult) -> Condition | None:
        """The first condition that does not hold; None if the file is written."""
        return next((condition for condition in self.when if not condition.holds(result)), None)

    def write(self, work: Any, path: Path) -> None:
        """Write the file and verify it; it appears at `path` when it is whole.

        Until then a DICOM object has a name that nobody takes for one: some platforms export every `*.dcm` that they
        find, whatever became of the run.

        Raises:
            OSError: The folder is absent or cannot be written.
            OutputInvalid: What was written does not reproduce the result.
        """
        with whole_file(path, called=f"{path.name}.part" if self.step == "dicom" else "") as part:
            for function in self.functions:
                function(work, part)


def _function(target: str) -> Callable[[Any, Path], object]:
    module, _, name = target.partition(":")
    function: Callable[[Any, Path], object] = getattr(import_module(module), name)
    return function
