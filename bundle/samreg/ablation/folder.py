"""The folder of an ablation: a table that grows run by run, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samreg.ablation.grid import flat
from samreg.ablation.runs import Plan, Progress, Row, identity, rows
from samreg.ablation.tables import csv_text, markdown, read_rows, summary
from samreg.errors import UsageError
from samreg.whole_files import alone_in, check_file, whole_file

RUNS, SUMMARY, TABLE = "ablation.csv", "summary.csv", "ablation.md"


class AblationFolder:
    """Where the rows of a plan are kept, so that an interrupted ablation goes on where it stood.

    Args:
        out: Made if absent. Rows of other grids that stand in its `ablation.csv` stay there.
        inputs: Paths that are read; none may be one of the files here.

    Raises:
        UsageError: `out` is a file or cannot be written, a file here is an input, or `ablation.csv` is another table.
    """

    def __init__(self, out: Path, inputs: Sequence[Path] = ()) -> None:
        self.out = out
        if out.exists() and not out.is_dir():
            raise UsageError(f"the output '{out}' is a file", "a folder")
        if out.is_dir():
            for name in (RUNS, SUMMARY, TABLE):
                check_file(out / name, inputs)
        self.kept = self._read()

    def missing(self, plan: Plan, *, again: bool = False) -> int:
        """How many runs of a plan are to be made."""
        here = set() if again else {identity(row) for row in self._finished()}
        return sum(name not in here for name in plan.identities)

    def run(self, plan: Plan, *, again: bool = False, on_progress: Progress | None = None) -> list[Row]:
        """Run what is missing, or all `again`; write each row as it comes, and the summary at the end.

        Returns:
            The rows of the plan, old and new.

        Raises:
            UsageError: The folder cannot be written, or another run is writing to it.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the output folder '{self.out}' cannot be written ({error.strerror})", "a folder you may write to"
            ) from error
        with alone_in(self.out):
            return self._run(plan, again=again, on_progress=on_progress)

    def _run(self, plan: Plan, *, again: bool, on_progress: Progress | None) -> list[Row]:
        self.kept = self._read()  # another run may have ended meanwhile
        table = {identity(row): row for row in self.kept}
        found = []
        for row in rows(plan, () if again else self._finished(), on_progress):
            found.append(row)
            if table.get(identity(row)) is not row:
                table[identity(row)] = row
                self.kept = list(table.values())
                self._write(RUNS, csv_text(self.kept))
        self._write(SUMMARY, csv_text(summary(found, plan.keys)))
        settings = flat(plan.base)
        head = {key: settings[key] for key in ("method", "transform", "seed") if key not in plan.keys}
        self._write(TABLE, markdown(found, plan.keys, {"configuration": plan.base.hash, **head}))
        return found

    def _read(self) -> list[Row]:
        return read_rows(self.out / RUNS) if (self.out / RUNS).is_file() else []

    def _finished(self) -> list[Row]:
        """The rows kept, without those of runs that failed (memory full, weights missing): they run again."""
        return [row for row in self.kept if row["status"] != "ERROR"]

    def _write(self, name: str, text: str) -> None:
        with whole_file(self.out / name) as part:
            part.write_text(text, encoding="utf-8")
