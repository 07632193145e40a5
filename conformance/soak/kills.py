"""``kill -9`` in the middle of a command, the same command again, and what is missing afterwards.

Each command is run once in peace for comparison; then it is killed, several times, at random moments, and resumed.
*Lost* counts results of the run in peace that the killed one does not have, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KILLS = 3  # of one run at most
TOO_LONG_S = 3600.0
POLL_S = 0.01
TIMES = ("second", "wall", "started", "ended", "revision")  # keys that say when, how long or by which commit

Results = dict[str, str]  # name of a result -> its hash


@dataclass(frozen=True)
class Job:
    """A command that can be resumed, and how its results are read."""

    name: str
    words: Callable[[Path], list[str]]  # of the command line, for a folder
    results: Callable[[Path], Results]


def training_results(folder: Path) -> Results:
    """Every row of losses, and the tensors of the weights."""
    from safetensors import safe_open

    result: Results = {}
    losses = folder / "losses.jsonl"
    for number, line in enumerate(losses.read_text().splitlines() if losses.is_file() else []):
        result[f"loss {number}"] = line
    for path in sorted(folder.glob("*.safetensors")):
        if path.name != "state.safetensors":
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    result[f"{path.name} {name}"] = hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest()
    return result


def evaluation_results(folder: Path) -> Results:
    """Every patient played, by policy, scenario, training seed and place."""
    result: Results = {}
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            name = " ".join([str(path.relative_to(folder)), *(f"{k}={row[k]}" for k in sorted(row) if k in _NAMES)])
            result[name] = json.dumps(_timeless(row), sort_keys=True)
    return result


_NAMES = ("scenario", "training_seed", "patient")


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not any(word in k for word in TIMES)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def jobs() -> dict[str, Job]:
    """What is killed, by name: a training, and an evaluation."""
    return {
        "train risk": Job(
            "train risk", lambda folder: ["train", "risk", "--preset", "tiny", "--out", str(folder)], training_results
        ),
        "evaluate": Job(
            "evaluate",
            lambda folder: [
                "evaluate", "random", "--scenarios", "bradycardia,svt", "--split", "validation", "--episodes", "20",
                "--fidelity", "vitals", "--workers", "1", "--out", str(folder),
            ],
            evaluation_results,
        ),
    }  # fmt: skip


def strike(job: Job, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """A row of the ledger: one run of the job, killed up to ``kills`` times; ``folder`` must be its own.

    The run in peace is kept beside it (``peace``) and made if it is missing.
    """
    rng, began = np.random.default_rng([seed, 77]), time.monotonic()
    peace = folder.parent / f"{job.name.replace(' ', '-')}-in-peace"
    usual = _in_peace(job, peace)
    landed = 0
    for _ in range(kills):
        landed += _killed(job, folder, rng, usual, _lines(peace))
    targets = job.results(peace)
    try:
        _finish(job, folder)
        result = job.results(folder)
    except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:  # it cannot be resumed: all is lost
        result = {f"{type(error).__name__}: {error}"[:500]: ""}
    lost = [name for name, value in targets.items() if result.get(name) != value]
    surplus = [name for name in result if name not in targets]
    return {
        "job": job.name, "kills": landed, "results": len(targets), "lost": len(lost) + len(surplus),
        "what": [*lost, *surplus][:5], "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _in_peace(job: Job, folder: Path) -> float:
    """Seconds that the undisturbed run took; remembered."""
    note = folder / "peace.json"
    if not note.is_file():
        began = time.monotonic()
        _finish(job, folder)
        note.write_text(json.dumps({"seconds": time.monotonic() - began}))
    return float(json.loads(note.read_text())["seconds"])


def _finish(job: Job, folder: Path) -> None:
    done = subprocess.run(
        _command(job, folder), capture_output=True, text=True, env=_environment(), timeout=TOO_LONG_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{job.name} in {folder} ended with {done.returncode}: {done.stderr[-500:]}")


def _killed(job: Job, folder: Path, rng: np.random.Generator, usual_s: float, lines: int) -> int:
    """1 if the run was killed at work, 0 if it had finished before.

    The moment is a random one: when so many of its ``lines`` are on disk (a busy machine must not make all kills early
    or late), or, one time in four, after a share of the usual seconds, when perhaps nothing is there yet.
    """
    run = subprocess.Popen(
        _command(job, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(),
        start_new_session=True,
    )  # fmt: skip
    there = _lines(folder)
    enough = int(rng.integers(there, max(there + 1, lines)))
    late = time.monotonic() + usual_s * float(rng.uniform(0.05, 0.5)) if rng.random() < 0.25 else np.inf
    while run.poll() is None:
        if time.monotonic() > late or _lines(folder) > enough:
            os.killpg(run.pid, signal.SIGKILL)  # the process and the workers that it started
            run.wait()
            return 1
        time.sleep(POLL_S)
    return 0


def _lines(folder: Path) -> int:
    """Lines of all ledgers in a folder: how far its run is."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl")) if folder.is_dir() else 0


def _command(job: Job, folder: Path) -> list[str]:
    return [sys.executable, "-c", "from training.cli.app import app; app()", *job.words(folder)]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
