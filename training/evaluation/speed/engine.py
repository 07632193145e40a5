"""How fast the engine is, as ratios in one run: CPU time of one thread on each side.

Other work on the machine then hardly counts. A ratio is the median over turns that stand beside each other; its range
goes from the lowest to the highest turn.

``vitals_vs_cartpole``, ``learned_vitals_vs_cartpole``: env steps a second without strips over those of Gymnasium's
``SyncVectorEnv`` of ``CartPole-v1``, 64 envs each; ``..._training`` without the untreated twin that ``info["cost"]`` is
told from, as ``ecg-gym train policy`` steps. ``oracle_strip_vs_neurokit``, ``learned_strip_vs_neurokit``: a step
with strip, measurement and classifier against the strip and its analysis by NeuroKit2. ``native_vs_sync_64``: the
native vector env over 64 single ones, with strips. ``plan_50x16_cpu_s``: a ranking of 50 treatments by 16 futures,
screened without strips, beside the ranking of all by strips. ``memory``: growth over many steps without strips.
"""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known

SCENARIO = "af_rapid_response"
WORLDS = {"oracle": "ECGInterventionOracle-v0", "learned": "ECGIntervention-v0"}
CANDIDATES, FUTURES = 50, 16


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    turns: int = 5
    calls: int = 18  # steps of a batch in a turn
    warm_up: int = 90  # steps of a batch before: tables fill
    envs: tuple[int, ...] = (64, 1024)
    neurokit: bool = True
    plans: int = 50  # patients for whom both rankings are made
    memory_steps: int = 1_000_000  # env steps that memory is measured over


USUAL = Size()
SMALL = Size(turns=2, calls=4, warm_up=9, envs=(64,), neurokit=False, plans=1, memory_steps=2_000)


def turns_of(size: Size) -> int:
    """How often ``study`` tells its progress."""
    return 2 * len(size.envs) + 3 + len(WORLDS) * (1 + size.neurokit) + size.plans + 1


def study(size: Size, progress: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The document: one ratio each, and what the sides took."""
    metrics: dict[str, Any] = {}

    def add(name: str, value: dict[str, Any]) -> None:
        metrics[name] = value
        progress()

    metrics["memory"] = _memory(size)  # first: what other parts have freed would hide what it takes
    cartpole = _stepper(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 64), None)
    for n in size.envs:
        for risk in ("limits", "adverse"):
            name = "vitals_vs_cartpole" + ("" if (n, risk) == (64, "limits") else f"_{n}_{risk}")
            add(name, _ratio(_warm(_vitals("oracle", n, risk), size), n, cartpole, 64, size))
    add("learned_vitals_vs_cartpole", _learned_world(size, cartpole))
    twinless = _warm(_vitals("oracle", 64, "limits", cost=False), size)
    add("vitals_vs_cartpole_training", _ratio(twinless, 64, cartpole, 64, size))
    add("learned_vitals_vs_cartpole_training", _learned_world(size, cartpole, cost=False))
    few = Size(size.turns, max(1, size.calls // 9))
    strips = {}
    for world, id in WORLDS.items():
        strips[world] = _native(id, 64, fidelity="strip")
        name = "native_vs_sync_64" + ("" if world == "oracle" else "_learned")
        add(name, _ratio(strips[world], 64, _single(id), 1, few))
    if size.neurokit:
        for world, side in strips.items():
            add(f"{world}_strip_vs_neurokit", _ratio(side, 64, _neurokit(), 1, Size(2, 1)))
    add("plan_50x16_cpu_s", _plans(size.plans, progress))
    rows = [{"ratio": name, **one} for name, one in metrics.items() if name != "memory"]
    return {"study": "speed", "scenario": SCENARIO, "seeds": [0], "turns": size.turns, "metrics": metrics,
            "rows": rows}  # fmt: skip


def _learned_world(size: Size, cartpole: Callable[[], None], **arguments: Any) -> dict[str, Any]:
    try:
        side = _vitals("learned", 64, "limits", **arguments)
    except ValueError as error:  # weights that say no readings without strips
        return {"value": None, "reason": str(error)}
    return _ratio(_warm(side, size), 64, cartpole, 64, size)


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


def _cpu(side: Callable[[], Any], calls: int = 1) -> float:
    """CPU seconds of one call."""
    begin = time.process_time()
    for _ in range(calls):
        side()
    return (time.process_time() - begin) / calls


def _vitals(world: str, n: int, risk: str, **arguments: Any) -> Callable[[], None]:
    return _native(WORLDS[world], n, fidelity="vitals", risk=risk, **arguments)


def _native(id: str, n: int, **arguments: Any) -> Callable[[], None]:
    envs: Any = gym.make_vec(id, num_envs=n, scenario=SCENARIO, **arguments)
    return _stepper(envs, envs.unwrapped.action_masks)


def _single(id: str) -> Callable[[], None]:
    how: dict[str, Any] = {"scenario": SCENARIO, "fidelity": "strip"}
    envs: Any = gym.make_vec(id, num_envs=1, vectorization_mode="sync", vector_kwargs={}, **how)
    return _stepper(envs, lambda: np.stack(envs.call("action_masks")))


def _stepper(envs: Any, masks: Callable[[], np.ndarray] | None) -> Callable[[], None]:
    """Steps all rows by allowed actions at random, half of them watching."""
    envs.reset(seed=0)
    fixed, rng = envs.action_space.sample(), np.random.default_rng(0)

    def step() -> None:
        if masks is None:
            envs.step(fixed)
            return
        allowed = masks()
        action = np.argmax(rng.random(allowed.shape) * allowed, axis=1)
        envs.step(np.where(rng.random(len(action)) < 0.5, 0, action))

    return step


def _warm(side: Callable[[], None], size: Size) -> Callable[[], None]:
    for _ in range(size.warm_up):
        side()
    return side


def _neurokit() -> Callable[[], None]:
    import neurokit2 as nk

    def step() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leads = nk.ecg_simulate(duration=10, sampling_rate=500, method="multileads", random_state=1)
            nk.ecg_process(np.asarray(leads)[:, 1], sampling_rate=500)

    return step


def _plans(patients: int, progress: Callable[[], None]) -> dict[str, Any]:
    """CPU seconds of a screened ranking and of one by strips alone, and how often the first is a best of the second."""
    from ecg_gym.pharmacology import FORMULARY
    from ecg_gym.risk import RiskModel
    from ecg_gym.virtual_patient import VirtualPatient
    from planners.ranking import plan
    from planners.screening import contenders

    world, risk, menu = VirtualPatient(), RiskModel.load(), FORMULARY.menu()[:CANDIDATES]
    everybody = world.initial(patients + 1, np.random.default_rng(0))

    def rules(*_: Any, **__: Any) -> tuple[()]:
        return ()

    times, agree, shares = [], [], []
    for row in range(patients + 1):
        state = everybody[[row]]
        plans: list[Any] = []
        state.ecg  # noqa: B018 - the record that a plan starts from is there

        def screened(state: Any = state, plans: list[Any] = plans) -> None:
            candidates = contenders(world, state, risk, menu, k=FUTURES)
            plans.append(plan(world, state, candidates, risk, k=FUTURES, rules=rules))

        def by_strips(state: Any = state, plans: list[Any] = plans) -> None:
            plans.append(plan(world, state, menu, risk, k=FUTURES, rules=rules))

        both = [_cpu(screened), _cpu(by_strips)]
        if row == 0:  # tables fill
            continue
        times.append(both)
        best = {one.treatment for one in plans[1].candidates if one.tie == 1}
        agree.append(plans[0].best.treatment in best)
        shares.append(len(best))
        progress()
    ours, theirs = np.array(times).T
    return {
        "value": float(np.median(ours)), "cpu_s_by_strips": float(np.median(theirs)),
        "times_faster": float(np.median(theirs / ours)), "range": [float(f(theirs / ours)) for f in (np.min, np.max)],
        "best_unchanged_within_ties": float(np.mean(agree)), "ties_of_the_best": float(np.median(shares)),
        "patients": patients,
    }  # fmt: skip


def _memory(size: Size) -> dict[str, float]:
    """By how much the process grows [MB] over many steps without strips."""
    step, n = _warm(_vitals("oracle", 64, "limits"), size), 64
    before = _resident()
    for _ in range(size.memory_steps // n):
        step()
    return {"steps": float(size.memory_steps), "grown_mb": _resident() - before}


def _resident() -> float:
    """The process's memory now [MB]; where the system does not say, the largest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20
