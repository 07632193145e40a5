"""Look-alikes of the three releases, written once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from releases import Known, run_small, write_release


@pytest.fixture(scope="session")
def look_alike(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Known]:
    """``look_alike("ecgrdvq")`` is a virtual trial in the layout of that release; do not change its files."""
    made: dict[str, Known] = {}

    def of(name: str) -> Known:
        if name not in made:
            folder: Path = tmp_path_factory.mktemp(name)
            made[name] = write_release(name, folder / "trial", run_small(name, folder / "trial"), folder / "release")
        return made[name]

    return of
