"""Steps per second of the native vector env beside Gymnasium's SyncVectorEnv and AsyncVectorEnv, in one run.

    ecg-gym study vector-speed [--quick] [--json] [--out FOLDER]

Every way steps the same number of envs with the same arguments and seeds, by the clock; actions are drawn from what
the masks allow, and a turn is a whole episode with its automatic reset. Turns of the ways alternate, and a ratio is
that of two neighbouring turns: what else the machine does then slows both. AsyncVectorEnv has one process per env, each
with one thread; it is left out where that would be more than ``MOST_PROCESSES``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

import ecg_gym
from training.evaluation import result

WAYS = ("native", "sync", "async")
MOST_PROCESSES = 16
GOAL = 10.0  # times SyncVectorEnv, at GOAL_ENVS
GOAL_ENVS = 64
SCENARIO = "af_rapid_response"


@dataclass(frozen=True)
class Case:
    """What is stepped."""

    name: str
    id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("oracle, limits", "ECGInterventionOracle-v0", {"risk": "limits"}),
    Case("model, dpm++ 10", "ECGIntervention-v0"),
    Case("model, student 2", "ECGIntervention-v0", {"knobs": {"sampler": "student", "steps": 2}}),
)


@dataclass(frozen=True)
class Size:
    """How much is stepped."""

    envs: tuple[int, ...] = (1, 16, 64)
    calls: int = 9  # of step in a turn: an episode of eight, and its reset
    turns: int = 3
    cases: tuple[Case, ...] = CASES


USUAL, SMALL = Size(), Size(envs=(1, 8), calls=2, turns=1)
StepInputs = Callable[[int], None]


def turns_of(size: Size) -> int:
    """How many turns there are, for the progress bar."""
    return sum(len(_ways(n)) for n in size.envs) * size.turns * len(size.cases)


def study(size: Size = USUAL, scenario: str = SCENARIO, progress: StepInputs = lambda n: None) -> dict[str, Any]:
    """The study's document: a row for each case, number of envs and way; ratios of native to sync are its metrics."""
    rows, metrics = [], {}
    before = os.getloadavg()[0]
    for case in size.cases:
        for n in size.envs:
            rates = measure(case, n, size, scenario, progress)
            ratios = {way: rates["native"] / rate for way, rate in rates.items()}
            rows += [_row(case, n, way, rates[way], ratios[way]) for way in rates]
            metrics[f"{case.name}, {n} envs"] = result.metric(
                float(np.median(ratios["sync"])),
                [float(ratios["sync"].min()), float(ratios["sync"].max())],
                {f"times {way}": float(np.median(ratio)) for way, ratio in ratios.items() if way == "async"},
                unit="times SyncVectorEnv",
            )
    return result.document(
        "vector-speed", None, 0, (0,), metrics, rows,
        scenario=scenario, turns=size.turns, calls=size.calls, cores=os.cpu_count(), load_before=before,
        interval="lowest and highest of the turns, not a confidence interval", goal=GOAL, goal_envs=GOAL_ENVS,
    )  # fmt: skip


def measure(
    case: Case, n: int, size: Size, scenario: str = SCENARIO, progress: StepInputs = lambda n: None
) -> dict[str, np.ndarray]:
    """Env steps per second of each turn ``(turns,)``, by way."""
    envs = {way: _make(case, n, way, scenario) for way in _ways(n)}
    try:
        rates: dict[str, list[float]] = {way: [] for way in envs}
        for env in envs.values():
            _turn(env, 1)  # caches, pools and processes are there before it counts
        for _ in range(size.turns):
            for way, env in envs.items():
                rates[way].append(_turn(env, size.calls))
                progress(1)
    finally:
        for env in envs.values():
            env.close()
    return {way: np.array(rate) for way, rate in rates.items()}


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows for people."""
    return [dict(row) for row in document["rows"]]


def _ways(n: int) -> tuple[str, ...]:
    return WAYS if n <= MOST_PROCESSES else WAYS[:2]


def _make(case: Case, n: int, way: str, scenario: str) -> VectorEnv:
    assert ecg_gym  # its import makes the ids known, here and by their prefix in the processes
    arguments: dict[str, Any] = {"scenario": scenario, **case.arguments}
    if way == "native":
        return gym.make_vec(case.id, num_envs=n, **arguments)
    if way == "sync":
        return gym.make_vec(case.id, num_envs=n, vectorization_mode="sync", **arguments)
    alone = {"context": "spawn"}
    with _one_thread():
        prefixed = f"ecg_gym:{case.id}"
        return gym.make_vec(prefixed, num_envs=n, vectorization_mode="async", vector_kwargs=alone, **arguments)


def _turn(env: VectorEnv, calls: int) -> float:
    """Env steps per second of ``calls`` steps from a reset on."""
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(calls):
        action = np.array([rng.choice(np.flatnonzero(mask)) for mask in info["action_mask"]])
        *_, info = env.step(action)
    return env.num_envs * calls / (time.perf_counter() - start)


def _row(case: Case, n: int, way: str, rates: np.ndarray, ratios: np.ndarray) -> dict[str, Any]:
    rate = float(np.median(rates))
    return {
        "case": case.name, "envs": n, "way": way, "steps_per_second": round(rate, 1), "ms_per_step": 1000 / rate,
        "native_is_times": float(np.median(ratios)), "lowest": float(ratios.min()), "highest": float(ratios.max()),
    }  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """New processes have one thread for their arithmetic."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def figure(document: Mapping[str, Any]) -> Any:
    """Steps per second over envs, a panel per case."""
    from matplotlib.figure import Figure

    names: Sequence[str] = list(dict.fromkeys(row["case"] for row in document["rows"]))
    samples = Figure(figsize=(4 * len(names), 3.2), layout="constrained")
    for axis, name in zip(samples.subplots(1, len(names), squeeze=False)[0], names):
        for way in WAYS:
            rows = [row for row in document["rows"] if row["case"] == name and row["way"] == way]
            axis.plot([row["envs"] for row in rows], [row["steps_per_second"] for row in rows], "o-", label=way)
        axis.set(title=name, xlabel="envs", ylabel="steps per second", xscale="log", yscale="log")
        axis.legend()
    return samples
