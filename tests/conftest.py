"""What several tests share: the place where real data lie, if they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_folders() -> list[Path]:
    """Where real data may lie, the first that exists: ECG_GYM_DATA, ``data/`` or ``../shared/data`` beside the root."""
    named = os.environ.get("ECG_GYM_DATA")
    return [*([Path(named)] if named else []), ROOT / "data", ROOT.parent / "shared" / "data"]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("ludb")`` is the folder of that data set; the test skips where there is none."""

    def find(name: str) -> Path:
        for folder in data_folders():
            if (folder / name).is_dir():
                return folder / name
        pytest.skip(f"no real data: there is no folder {name!r}; set ECG_GYM_DATA to the folder that holds it")

    return find
