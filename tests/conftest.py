"""Fixtures that every test file may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; they may not be shipped, so a clone alone does not have them."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("MELFAST_TEST_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder} (MELFAST_TEST_DATA)")
    return folder
