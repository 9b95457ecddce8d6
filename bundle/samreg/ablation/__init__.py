"""A grid of configurations over a list of image pairs, and the table that compares them.

    from samreg import ablation
    rows = ablation.run("PAIRS.csv", grid={"matching.max_pairs": (1, 3, 5), "transform": ("affine", "deformable")})
    print(ablation.markdown(rows, ["matching.max_pairs", "transform"]))

`rows` is a list of flat dictionaries, one for each run: `pandas.DataFrame(rows)` reads it.
"""

from samreg.ablation.cases import Case, read_cases
from samreg.ablation.folder import RUNS, TABLE, AblationFolder
from samreg.ablation.grid import Variant, parse, variants
from samreg.ablation.runs import Plan, Row, planned, run
from samreg.ablation.tables import WITHOUT_RESULT, csv_text, markdown, read_rows, summary

__all__ = [
    "RUNS",
    "TABLE",
    "WITHOUT_RESULT",
    "AblationFolder",
    "Case",
    "Plan",
    "Row",
    "Variant",
    "csv_text",
    "markdown",
    "parse",
    "planned",
    "read_cases",
    "read_rows",
    "run",
    "summary",
    "variants",
]
