"""A message is one line of text, whatever stood in the file that it tells of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from samreg import cli
from samreg.errors import InputRefused, SamregError, UsageError
from samreg.outputs import refusal_file


@pytest.mark.parametrize("odd", ["\0", "\n", "\r", "\x1b[31m", "\x85", "\u2028", "\udcff", "\u202e"])
def test_no_control_characters(odd: str):
    error = UsageError(f"the name 'a{odd}b'", f"no {odd}", f"Take {odd} out.")
    for text in (error.got, error.expected, error.next_step, str(error)):
        assert text.isprintable()
        assert text.encode("utf-8")
    assert "'a" in error.got
    assert "b'" in error.got


def test_texts_of_people_are_kept():
    got = "'Größe 5 µm.nii' hält 頭部 ‘so’ – … × ±"
    assert UsageError(got).got == got


def test_no_endless_messages():
    assert len(UsageError("9" * 10**6, "8" * 10**6).sentence) < 10_000


def test_a_file_whose_name_is_no_text_is_refused_in_the_report_too(tmp_path: Path):
    """Names in Latin-1, as old archives hold them."""
    name = os.fsdecode(b"Gr\xf6\xdfe.nii.gz")
    (tmp_path / name).write_bytes(b"no image")
    report = refusal_file(InputRefused(f"'{name}' cannot be read", reason="unreadable-file"), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    out = tmp_path / "out"
    paths = [str(tmp_path / name), str(tmp_path / name)]
    assert cli.main(["register", *paths, "-o", str(out)]) == 3
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["status"] == "REFUSED"


def test_a_path_with_a_zero_byte_does_not_exist(tmp_path: Path):
    from samreg.ablation.cases import read_cases

    (tmp_path / "pairs.csv").write_text("fixed,moving\na\0.nii,b.nii\n")
    with pytest.raises(SamregError, match="does not exist"):
        read_cases(tmp_path / "pairs.csv")
