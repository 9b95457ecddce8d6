#!/usr/bin/env bash
# Installs the wheel into two fresh environments, beside the oldest releases that pyproject.toml allows and beside the
# newest, and runs `samreg selftest` and tests in each.
#
#   tools/ranges.sh [OUT]           OUT (build/ranges) then holds the wheel, oldest/ and newest/ with their versions.txt
#
# PYTHON     makes the environments (python3.11)
# TESTS      to run in both (those of DICOM objects, files and transforms)
# NEWEST     requirements that narrow the newest, such as "torch==2.13.0" where the disk is small
set -euo pipefail
cd "$(dirname "$0")/.."

out="$(realpath -m "${1:-build/ranges}")"
python="${PYTHON:-python3.11}"
rm -rf "$out" build/lib  # setuptools would put files of an earlier build into the wheel
mkdir -p "$out"

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$out" .
tests="${TESTS:-$(echo tests/unit/test_{dicom_out,io,transforms,encoders}_*.py)}"
wheel="$(echo "$out"/samreg-*.whl)"
"$python" - > "$out/oldest.txt" <<'PY'
import re
import tomllib
from pathlib import Path

for requirement in tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
    name, oldest = re.match(r"([\w.-]+)>=([\w.]+)", requirement).groups()
    print(f"{name}=={oldest}")
PY
printf '%s\n' ${NEWEST:-} > "$out/newest.txt"

for end in oldest newest; do
    "$python" -m venv "$out/$end"
    "$out/$end/bin/python" -m pip install --quiet --constraint "$out/$end.txt" "$wheel[dev]"
    "$out/$end/bin/python" -m pip check
    "$out/$end/bin/python" -m pip freeze > "$out/$end/versions.txt"
    echo "samreg: beside the $end releases"
    (cd "$out" && env -u PYTHONPATH "$out/$end/bin/samreg" selftest)
    # shellcheck disable=SC2086  # a list
    "$out/$end/bin/python" -m pytest -q $tests
done
