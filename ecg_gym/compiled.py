"""Compiled loops: Numba's ``njit`` with one set of options, and a cache that knows when it is out of date.

Numba compiles a function anew when its own file has changed, but not when a function that it calls has, in another
file. The cache therefore lies in a folder that is named after the text of all files with compiled functions: beside
the package where that can be written, else in the user's cache folder, else in a temporary one. A later process loads
it within a second. ``NUMBA_CACHE_DIR`` decides where it is set.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import config as _config
from numba import njit

config: Any = _config  # its settings are made when it is loaded
_F = TypeVar("_F", bound=Callable[..., Any])
# No "nnan" and no "ninf": NaN is what could not be measured.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
_KEPT = 3  # caches of other versions that may stay beside the newest


def compiled(function: _F) -> _F:
    """The function compiled at its first call, for the types it is called with; its signature stays."""
    return _with(function, _OPTIONS)


def compiled_exact(function: _F) -> _F:
    """As :func:`compiled`, sums in the order in which they are written: the same bits for a row in every batch.

    A division by zero is infinite or NaN, as NumPy has it: asking before each division takes a third of some loops.
    """
    return _with(function, {**_OPTIONS, "fastmath": False, "error_model": "numpy"})


def _with(function: _F, options: dict[str, Any]) -> _F:
    """The function with options of ``njit``, its cache in the folder of this version."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_FOLDER)
    try:
        return njit(**options)(function)
    finally:
        config.CACHE_DIR = before


def _digest() -> str:
    """A name for the text of every file of the package that compiles functions."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        text = path.read_bytes()
        if b"@compiled" in text or b"njit" in text:
            digest.update(path.name.encode() + text)
    return digest.hexdigest()[:12]


def _folder() -> Path:
    """Where compiled code is kept; the folder is made."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = [Path(config.CACHE_DIR)] if config.CACHE_DIR else [Path(__file__).parent / "__pycache__", home]
    for place in (*places, Path(tempfile.gettempdir()) / f"cache-{user}"):
        folder = place / f"ecg-gym-compiled-{_digest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _forget_others(folder)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="ecg-gym-compiled-"))


def _forget_others(folder: Path) -> None:
    """Removes all but the newest few of the caches of other versions."""
    others = [path for path in folder.parent.glob("ecg-gym-compiled-*") if path != folder]
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


_FOLDER = _folder()
