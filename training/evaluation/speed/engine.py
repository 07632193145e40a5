"""How fast the engine is, as ratios in one run: CPU time of one thread on each side.

Other work on the machine then hardly counts.

``vitals_vs_cartpole``: env steps a second of the virtual patient without strips over those of Gymnasium's
``SyncVectorEnv`` of ``CartPole-v1``, 64 envs each. ``native_vs_sync_64``: a native vector env over 64 single ones,
with strips. ``oracle_strip_vs_neurokit``: a step with strip, measurement and classifier against the step one would
build from NeuroKit2. A ratio is the median over turns that stand beside each other; its interval goes from the lowest
to the highest turn.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

SCENARIO = "af_rapid_response"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    turns: int = 5
    calls: int = 18  # steps of a batch in a turn
    warm_up: int = 90  # steps of a batch before: tables fill
    envs: tuple[int, ...] = (64, 1024)
    neurokit: bool = True
    memory_steps: int = 200_000  # env steps that memory is measured over


USUAL = Size()
SMALL = Size(turns=2, calls=4, warm_up=9, envs=(64,), neurokit=False, memory_steps=2_000)


def study(size: Size, progress: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The document: one ratio each, and what the sides took."""
    metrics: dict[str, Any] = {}
    cartpole = _stepper(
        gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 64), np.random.default_rng(0), None
    )
    for n in size.envs:
        for risk in ("limits", "adverse"):
            ours = _vitals(n, risk)
            for _ in range(size.warm_up):
                ours()
            name = "vitals_vs_cartpole" + ("" if (n, risk) == (64, "limits") else f"_{n}_{risk}")
            metrics[name] = _ratio(ours, n, cartpole, 64, size)
            progress()
    strips, single = _strip_batch(64), _strip_single()
    metrics["native_vs_sync_64"] = _ratio(strips, 64, single, 1, Size(size.turns, max(1, size.calls // 9)))
    progress()
    if size.neurokit:
        metrics["oracle_strip_vs_neurokit"] = _ratio(strips, 64, _neurokit(), 1, Size(2, 1))
        progress()
    metrics["memory"] = _memory(size)
    rows = [{"ratio": name, **one} for name, one in metrics.items() if "value" in one]
    return {"study": "speed", "scenario": SCENARIO, "seeds": [0], "turns": size.turns, "metrics": metrics,
            "rows": rows}  # fmt: skip


def _ratio(fast: Callable[[], None], n_fast: int, slow: Callable[[], None], n_slow: int, size: Size) -> dict[str, Any]:
    """Steps a second of one side over those of the other."""
    fast()
    slow()
    turns = []
    for _ in range(size.turns):
        turns.append([_cpu(side, size.calls) / n for side, n in ((fast, n_fast), (slow, n_slow))])
    ours, theirs = np.array(turns).T
    ratio = theirs / ours
    return {
        "value": float(np.median(ratio)), "range": [float(ratio.min()), float(ratio.max())],
        "us_per_step": float(1e6 * np.median(ours)), "us_per_step_other": float(1e6 * np.median(theirs)),
    }  # fmt: skip


def _cpu(side: Callable[[], None], calls: int) -> float:
    """CPU seconds of one call."""
    begin = time.process_time()
    for _ in range(calls):
        side()
    return (time.process_time() - begin) / calls


def _vitals(n: int, risk: str) -> Callable[[], None]:
    envs: Any = gym.make_vec("ECGInterventionOracle-v0", num_envs=n, scenario=SCENARIO, fidelity="vitals", risk=risk)
    return _stepper(envs, np.random.default_rng(0), envs.unwrapped.action_masks)


def _strip_batch(n: int) -> Callable[[], None]:
    envs: Any = gym.make_vec("ECGInterventionOracle-v0", num_envs=n, scenario=SCENARIO)
    return _stepper(envs, np.random.default_rng(0), envs.unwrapped.action_masks)


def _strip_single() -> Callable[[], None]:
    envs: Any = gym.make_vec(
        "ECGInterventionOracle-v0", num_envs=1, vectorization_mode="sync", vector_kwargs={}, scenario=SCENARIO
    )
    return _stepper(envs, np.random.default_rng(0), lambda: np.stack(envs.call("action_masks")))


def _stepper(envs: Any, rng: np.random.Generator, masks: Callable[[], np.ndarray] | None) -> Callable[[], None]:
    """Steps all rows by allowed actions at random, half of them watching."""
    envs.reset(seed=0)
    fixed = envs.action_space.sample()

    def step() -> None:
        if masks is None:
            envs.step(fixed)
            return
        allowed = masks()
        action = np.argmax(rng.random(allowed.shape) * allowed, axis=1)
        envs.step(np.where(rng.random(len(action)) < 0.5, 0, action))

    return step


def _neurokit() -> Callable[[], None]:
    import warnings

    import neurokit2 as nk

    def step() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leads = nk.ecg_simulate(duration=10, sampling_rate=500, method="multileads", random_state=1)
            nk.ecg_process(np.asarray(leads)[:, 1], sampling_rate=500)

    return step


def _memory(size: Size) -> dict[str, float]:
    """By how much the process grows [MB] over many steps without strips."""
    step, n = _vitals(64, "limits"), 64
    for _ in range(size.warm_up):
        step()
    before = _resident()
    for _ in range(size.memory_steps // n):
        step()
    return {"steps": float(size.memory_steps), "grown_mb": _resident() - before}


def _resident() -> float:
    """The process's largest memory so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
