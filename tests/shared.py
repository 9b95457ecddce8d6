"""The images of ../shared, beside the repository and no part of it; without them the tests that need them are skipped.

A test says what it needs: `@pytest.mark.shared("decubitus")`, folders and files of DATA.
"""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def skip_without_shared(item: pytest.Item) -> None:
    """Skip a test whose images are absent. All are skipped from here, so the summary has one line for them."""
    if not all((DATA / name).exists() for mark in item.iter_markers("shared") for name in mark.args):
        pytest.skip("the images of ../shared are not there")
