"""Broken inputs, thousands of them: each must be taken as it is, or refused with a sentence that helps.

A refusal helps if it is of a documented type and says what arrived, what was expected and what to do ("...; expected
...; ..."). Everything else that is raised is a traceback: ours to mend. Input n follows from the seed and n alone, so a
row of the ledger can be tried again: ``try_one(seed, n)``. No input on disk may change by being read.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import resource
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from conformance.soak.mutations import ASSETS, FAMILIES
from ecg_gym.checks import untouched_global_randomness

DOCUMENTED = (ValueError, TypeError, OSError, gym.error.Error)
SENTENCE = re.compile(r";?\s*\bexpected\b.*;", re.DOTALL)
TOO_LONG_S = 60  # an input that takes longer hangs
SLOW_TO_LOAD = ("torch", "pandas", "wfdb")  # loaded before the clock starts: a busy machine may take a minute for it
MEMORY_BYTES = 12 * 2**30  # that a process may ask for: whatever a header claims
CHUNK = 50  # inputs of one piece of work


def chunk(seed: int, first: int, n: int) -> dict[str, Any]:
    """A row of the ledger: inputs ``first .. first + n - 1``, how many were taken and refused, and what went wrong."""
    for name in SLOW_TO_LOAD:
        importlib.import_module(name)
    _limit_memory()
    before = _hash_folder(ASSETS)
    row: dict[str, Any] = {"key": [first, n], "inputs": n, "taken": 0, "refused": 0, "harmed": 0, "touched": 0}
    row |= {"faults": [], "families": {}}
    for number in range(first, first + n):
        result = try_one(seed, number)
        of = row["families"].setdefault(result["family"], {"inputs": 0, "taken": 0, "refused": 0, "tracebacks": 0})
        of["inputs"] += 1
        row["harmed"] += result["harmed"]
        row["touched"] += result["touched"]
        if result["verdict"] in ("taken", "refused"):
            row[result["verdict"]] += 1
            of[result["verdict"]] += 1
        else:
            of["tracebacks"] += 1
            row["faults"].append(result)
    row["harmed"] += int(_hash_folder(ASSETS) != before)
    return row


def family_of(number: int) -> str:
    """Which kind of input that number is."""
    return list(FAMILIES)[number % len(FAMILIES)]


def try_one(seed: int, number: int) -> dict[str, Any]:
    """What became of input ``number``: taken, refused, or a fault with its type, message and place."""
    name = family_of(number)
    rng = np.random.default_rng([seed, number])
    result: dict[str, Any] = {"n": number, "family": name, "harmed": 0, "touched": 0}
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        folder = Path(place)
        attempt = FAMILIES[name](rng, folder)
        before = _hash_folder(folder)
        try:
            with _deadline(), warnings.catch_warnings(), untouched_global_randomness():
                warnings.simplefilter("ignore")
                attempt.use()
            result["verdict"] = "taken"
        except Exception as error:
            result["touched"] = int(isinstance(error, AssertionError) and "global random" in str(error))
            result |= {"verdict": verdict(error)}
            if result["verdict"] == "traceback":
                result |= {"what": attempt.what, "type": type(error).__name__, "message": str(error)[:300]}
                result["where"] = _place(error)
        result["harmed"] = int(_hash_folder(folder) != before)
    return result


def verdict(error: Exception) -> str:
    """ "refused" if the error is of a documented type and a sentence in three parts, else "traceback"."""
    if isinstance(error, gym.error.Error) or "got an unexpected keyword argument" in str(error):
        return "refused"  # Gymnasium's own words, and Python's, which name the word
    return "refused" if isinstance(error, DOCUMENTED) and SENTENCE.search(str(error)) else "traceback"


def _place(error: Exception) -> str:
    """The innermost frames of this package, outermost first."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/site-packages/" not in f.filename]
    places = [f"{Path(f.filename).parent.name}/{Path(f.filename).name}:{f.lineno}" for f in frames]
    return " > ".join([place for place in places if "soak/" not in place][-3:])


def _hash_folder(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below, by its name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def _deadline() -> Iterator[None]:
    """Inside, an alarm goes off after ``TOO_LONG_S``; only the main thread of a process can be alarmed."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"still at work after {TOO_LONG_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TOO_LONG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
