"""Documents that a script writes: written anew, or compared with what stands in the repository."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def with_parts(document: Path, parts: Mapping[str, str]) -> str:
    """The text of a document with the parts between its markers made anew.

    Args:
        document: File that holds `<!-- generated: NAME -->` and `<!-- end -->` around each part.
        parts: Text of each part by its name.

    Raises:
        SystemExit: The document lacks a marker.
    """
    text = document.read_text(encoding="utf-8")
    for name, part in parts.items():
        start, end = f"<!-- generated: {name} -->", "<!-- end -->"
        pattern = re.compile(re.escape(start) + r".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"docs/{document.name} lacks the marker {start}")
        text = pattern.sub(lambda _, s=start, t=part, e=end: f"{s}\n{t}\n{e}", text, count=1)
    return text


def main(documents: Mapping[Path, str]) -> int:
    """Write the documents if the option `--write` is given; otherwise name those that are out of date.

    Returns:
        Exit code: 1 if a document is out of date and was not written.
    """
    stale = [path for path, text in documents.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if sys.argv[1:] == ["--write"]:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(documents[path], encoding="utf-8")
        return 0
    for path in stale:
        print(f"{path.relative_to(ROOT)} is out of date. Run `make docs`.")
    return int(bool(stale))
