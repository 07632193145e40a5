"""The soak itself: walks, inputs and kills in several processes, each finished piece on disk before the next begins."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.soak import inputs, kills, random_steps
from conformance.soak.ledger import Ledger

Task = tuple[str, Any, Callable[..., dict[str, Any]], tuple[Any, ...]]  # kind, key, function, arguments
AHEAD = 2  # tasks handed out per process


@dataclass(frozen=True)
class Plan:
    """How much, and what it follows from."""

    steps: int
    inputs: int
    kills: int
    seed: int = 0
    learned: float = 0.05  # share of the steps in the learned world

    @property
    def settings(self) -> dict[str, Any]:
        """What the pieces depend on, for :meth:`Ledger.claim`; the number of kills may grow."""
        return {name: value for name, value in asdict(self).items() if name != "kills"}


def run(plan: Plan, folder: Path, workers: int, minutes: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every piece that was not done yet, as it is done: ``(kind, row)``; it is on disk by then.

    After ``minutes`` no new piece is begun. A process that dies of an input is itself a finding: the piece is noted
    with what was left undone, and the others go on.
    """
    ledger, stop = Ledger(folder), time.monotonic() + 60 * (minutes if minutes is not None else 1e9)
    ledger.claim(plan.settings)
    done = {kind: {str(row["key"]) for row in ledger.rows(kind)} for kind in ("steps", "inputs")}
    waiting = (task for task in [*_inputs(plan), *_steps(plan)] if str(task[1]) not in done[task[0]])
    yield from _together(waiting, workers, stop, ledger)
    for number, count in _kills(plan, ledger):
        if time.monotonic() > stop:
            return
        job = list(kills.jobs().values())[number % len(kills.jobs())]
        scratch = folder / "kills" / f"{number}"
        shutil.rmtree(scratch, ignore_errors=True)
        row = {"key": number, **kills.strike(job, count, plan.seed + number, scratch)}
        ledger.add("kills", row)
        if not row["lost"]:
            shutil.rmtree(scratch, ignore_errors=True)
        yield "kills", row


def remaining(plan: Plan, folder: Path) -> dict[str, int]:
    """How much there is to do, by kind, of everything planned."""
    ledger = Ledger(folder)
    done = {kind: {str(row["key"]) for row in ledger.rows(kind)} for kind in ("steps", "inputs")}
    planned = random_steps.walks(plan.steps, plan.seed, plan.learned)
    return {
        "steps": sum(walk.total for walk in planned if str(walk.number) not in done["steps"]),
        "inputs": sum(n for first, n in _chunks(plan.inputs) if str([first, n]) not in done["inputs"]),
        "kills": max(0, plan.kills - sum(row["kills"] for row in ledger.rows("kills"))),
    }  # fmt: skip


def _steps(plan: Plan) -> Iterator[Task]:
    for walk in random_steps.walks(plan.steps, plan.seed, plan.learned):
        yield "steps", walk.number, random_steps.take, (walk, plan.seed)


def _chunks(total: int) -> Iterator[tuple[int, int]]:
    for first in range(0, total, inputs.CHUNK):
        yield first, min(inputs.CHUNK, total - first)


def _inputs(plan: Plan) -> Iterator[Task]:
    for first, n in _chunks(plan.inputs):
        yield "inputs", [first, n], inputs.chunk, (plan.seed, first, n)


def _kills(plan: Plan, ledger: Ledger) -> Iterator[tuple[int, int]]:
    """Numbers of runs and how often to kill each, until enough have been killed; ever fewer tries if none lands."""
    tries = 0
    while (missing := plan.kills - sum(row["kills"] for row in ledger.rows("kills"))) > 0 and tries < 4 * plan.kills:
        number = len(ledger.rows("kills"))
        share = -(-missing // max(1, len(kills.jobs()) - number)) if number < len(kills.jobs()) else missing
        yield number, min(kills.KILLS, share)
        tries += 1


def _together(tasks: Iterable[Task], workers: int, stop: float, ledger: Ledger) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the tasks as they are done, several at a time; kept in the ledger."""
    if workers == 0:
        for kind, _, work, arguments in tasks:
            if time.monotonic() > stop:
                return
            row = work(*arguments)
            ledger.add(kind, row)
            yield kind, row
        return
    todo, pool = iter(tasks), _pool(workers)
    running: dict[Future[dict[str, Any]], Task] = {}
    try:
        while True:
            while len(running) < AHEAD * workers and time.monotonic() < stop and (task := next(todo, None)) is not None:
                running[pool.submit(task[2], *task[3])] = task
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                kind, key, work, arguments = running.pop(future)
                try:
                    row = future.result()
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    broken, pool = [(kind, key, work, arguments), *running.values()], _pool(workers)
                    running = {}
                    for task in broken:  # one of them did it: each alone tells which
                        result = _alone(task)
                        ledger.add(task[0], result)
                        yield task[0], result
                    break
                ledger.add(kind, row)
                yield kind, row
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(task: Task) -> dict[str, Any]:
    """A task in a process of its own; a row that says so if the process dies of it."""
    kind, key, work, arguments = task
    with _pool(1) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            fault = {
                "verdict": "traceback",
                "family": "a whole piece",
                "type": "the process died",
                "message": str(error),
            }
            empty = {"inputs": arguments[2] if kind == "inputs" else 0, "steps": 0, "faults": [fault]}
            return {"key": key, "taken": 0, "refused": 0, "harmed": 0, "touched": 0, "families": {}, **empty}


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_alone_with_one_thread)


def _alone_with_one_thread() -> None:
    """Loads torch before anything is watched, with one thread: the processes share the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
