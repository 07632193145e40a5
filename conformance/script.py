"""What every check shares: the ids and their cheap arguments, how it skips, and the one line it ends with."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = ROOT / ".conformance"  # ignored: virtual environments, other people's sources, what the checks write
SKIPPED = 77  # exit code of a check that could not be made here

LEARNED, ORACLE = "ECGIntervention-v0", "ECGInterventionOracle-v0"
CHEAP: dict[str, Any] = {"risk": "limits"}  # judged by the interval limits alone: no weights, no torch
WORLDS: dict[str, dict[str, Any]] = {
    ORACLE: CHEAP,
    LEARNED: {},
}  # id -> its arguments here; the learned world runs as it ships


class Skip(Exception):
    """This check cannot be made here; the message says why and what would make it possible."""


def need(*modules: str) -> list[Any]:
    """The modules, imported; :class:`Skip` names the first that is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name.split(".")[0]) is None]
    if missing:
        raise Skip(f"{missing[0]} is not installed in {sys.prefix}")
    return [importlib.import_module(name) for name in modules]


def has_torch() -> bool:
    """Whether the learned world can run here."""
    return importlib.util.find_spec("torch") is not None


@contextmanager
def strict(*ignored: str) -> Iterator[None]:
    """Every warning is an error, except those whose message matches one of ``ignored``."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for message in ignored:
            warnings.filterwarnings("ignore", message=message)
        yield


def run(check: Callable[[], str]) -> None:
    """Run a check as a program: exit 0 and its own last line, or 77 and why it was skipped, or a traceback."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        remark = check()
    except Skip as reason:
        print(reason)
        raise SystemExit(SKIPPED) from None
    print(remark)
