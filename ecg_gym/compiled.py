"""Compiled loops: Numba's ``njit`` with one set of options, and a cache that knows when it is out of date.

Numba compiles a function anew when its own file has changed, but not when a function that it calls has, or a constant
that it uses, in another file. What a file has compiled therefore lies in a folder that is named after its text, that of
the compiled files below it, and that of the modules which these import: beside the package where that can be written,
else in the user's cache folder, else in a temporary one. A later process loads it within a second. ``NUMBA_CACHE_DIR``
decides where it is set.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import config as _config
from numba import njit, types

config: Any = _config  # its settings are made when it is loaded
_F = TypeVar("_F", bound=Callable[..., Any])
# No "nnan" and no "ninf": NaN is what could not be measured.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
_PACKAGE = Path(__file__).resolve().parent
_IMPORT = re.compile(r"^\s*from (ecg_gym[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
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
    config.CACHE_DIR = str(_folder(Path(function.__code__.co_filename).resolve()))
    try:
        return _plain(njit(**options)(function))
    finally:
        config.CACHE_DIR = before


def _plain(dispatcher: Any) -> Any:
    """The function, compiled once for all integers: left alone, a constant that a compiled caller hands over is a type
    of its own, and the function and all below it are compiled anew for it.
    """
    template = dispatcher.get_call_template

    def get_call_template(arguments: Any, names: Any) -> Any:
        plain = {name: types.unliteral(each) for name, each in names.items()}
        return template(tuple(types.unliteral(each) for each in arguments), plain)

    dispatcher.get_call_template = get_call_template
    return dispatcher


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """The files of the package that a file imports, those inside functions too."""
    files = []
    for package, names in _IMPORT.findall(_text(path)):
        place = _PACKAGE.parent.joinpath(*package.split("."))
        words = [word.split(" as ")[0].strip() for word in names.strip("()").split(",")]
        files += [place.with_suffix(".py"), *(place / f"{word}.py" for word in words if word.isidentifier())]
    return tuple(sorted({other for other in files if other.is_file()}))


def _compiles(path: Path) -> bool:
    return "@compiled" in _text(path) or "njit" in _text(path)


@cache
def _digest(path: Path) -> str:
    """A name for the text that what a file compiles depends on."""
    waiting, below = [path], {path}
    while waiting:
        new = {other for other in _imports(waiting.pop()) if _compiles(other)} - below
        below |= new
        waiting += new
    digest = hashlib.sha256()
    for other in sorted(below | {other for one in below for other in _imports(one)}):
        digest.update(other.name.encode() + _text(other).encode())
    return digest.hexdigest()[:12]


def _folder(path: Path) -> Path:
    """Where what a file has compiled is kept; the folder is made."""
    name = f"{path.parent.name}-{path.stem}-"
    folder = _home() / f"{name}{_digest(path)}"
    try:
        folder.mkdir(exist_ok=True)
        _forget_others(folder, name)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="ecg-gym-compiled-"))
    return folder


@cache
def _home() -> Path:
    """The folder of all compiled code; it is made."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = [Path(config.CACHE_DIR)] if config.CACHE_DIR else [Path(__file__).parent / "__pycache__", home]
    for place in (*places, Path(tempfile.gettempdir()) / f"cache-{user}"):
        folder = place / "ecg-gym-compiled"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="ecg-gym-compiled-"))


def _forget_others(folder: Path, name: str) -> None:
    """Removes all but the newest few of a file's caches of other versions."""
    others = [path for path in folder.parent.glob(f"{name}*") if path != folder and len(path.name) == len(folder.name)]
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
