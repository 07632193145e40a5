"""Compiled loops: Numba's ``njit`` with one set of options, and a cache folder that can be written.

Compiled code is kept beside the source, where that folder can be written, else in the user's cache folder; a later
process then loads it within a second. ``NUMBA_CACHE_DIR`` decides where it is set.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
# No "nnan" and no "ninf": NaN is what could not be measured.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


def _cache_folder() -> Path | None:
    """A folder for compiled code where the package's own cannot be written; None where it can."""
    if os.access(Path(__file__).parent, os.W_OK):
        return None
    for place in (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"), Path(tempfile.gettempdir())):
        folder = place / f"ecg-gym-numba-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


if "NUMBA_CACHE_DIR" not in os.environ and (_folder := _cache_folder()) is not None:
    os.environ["NUMBA_CACHE_DIR"] = str(_folder)

from numba import njit  # noqa: E402


def compiled(function: _F) -> _F:
    """The function compiled at its first call, for the types it is called with; its signature stays."""
    return njit(**_OPTIONS)(function)
