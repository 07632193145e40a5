"""Do readings without strips say what strips say? Readings of both, and what policies earn in both.

People of every rhythm, two steps of random treatment behind them, are read both ways: ``vitals`` is what the virtual
patient says without a strip, ``strip`` what is measured on the strip it would have drawn. A bias is the mean difference
over those that both could read; beside the SD of the difference stands the repeatability, the SD of two measurements of
one person. Returns are minus the risk-hours of fixed policies in every scenario, the same seeds in both, beside the gap
from random choice to the top anchor of the benchmark there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ecg_gym.columns import Patients
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.virtual_patient.reading_errors import Size as People
from training.evaluation.virtual_patient.reading_errors import states

READ = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms")
POLICIES = 10  # watch, and nine that give the same entry of the menu at every step where it is allowed
LARGEST = 0.02  # share of differences at either end that is left out of bias and SD: wild measurements


@dataclass(frozen=True)
class Size:
    """How much is drawn."""

    people: int = 30  # of each rhythm, for the readings
    blocked: int = 6  # more with each blocked path
    episodes: int = 24  # of each policy in each scenario
    scenarios: int = 10


USUAL = Size()
SMALL = Size(4, 1, 4, 2)


def study(size: Size, progress: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The document: readings by rhythm, risk, and returns by scenario and policy."""
    rows = readings(size, progress)
    returns = policy_returns(size, progress)
    strip, vitals = (np.array([row[name] for row in returns]) for name in ("strip", "vitals"))
    share = (vitals - strip) / np.array([row["gap"] for row in returns])
    biases = [abs(row["bias"]) for row in rows["readings"] if row["n"] >= 10 and row["reading"] != "risk"]
    values = {
        "largest_bias": max(biases, default=None),
        "share_of_biases_within_2": float(np.mean(np.array(biases) <= 2)) if biases else None,
        "risk_correlation": rows["risk_correlation"],
        "returns_rank_correlation": float(spearmanr(strip, vitals).statistic),
        "returns_difference_of_gap": float(np.mean(share)),
        "returns_absolute_difference_of_gap": float(np.mean(np.abs(share))),
    }
    return {
        "study": "fidelity",
        "preset": "the shipped table of readings",
        "seeds": [People().seed + 1],
        "n_patients": rows["n"],
        "rows": rows["readings"],
        "returns": returns,
        "metrics": {name: {"value": value, "ci95": None, "baselines": {}} for name, value in values.items()},
    }


def readings(size: Size, progress: Callable[[], None]) -> dict[str, Any]:
    """Each reading both ways, by rhythm."""
    world, risk, seed = VirtualPatient(), RiskModel.load(), People().seed + 1
    table: dict[str, dict[str, list[np.ndarray]]] = {}
    risks: list[tuple[np.ndarray, np.ndarray]] = []
    pairs = states(People(size.people, size.blocked, seed))
    for before, state in zip(pairs[::2], pairs[1::2]):
        if not len(state):
            continue
        strips = [risk(s.ecg, s.ecg, s.patients, s.alive) for s in (before, state)]
        looks = [world.vitals(s) for s in (before, state)]
        totals = [
            risk.judge(look, look, Patients.of(s.patients), s.alive)[1] for look, s in zip(looks, (before, state))
        ]
        rhythm = world.truth(state[:1])[0].rhythm
        columns = table.setdefault(rhythm, {})
        for name in READ:
            first, second = (np.asarray(getattr(r.intervals, name), float) for r in strips)
            columns.setdefault(name, []).append(np.stack([looks[1][name], second, first]))
        columns.setdefault("risk", []).append(np.stack([totals[1], strips[1].total, strips[0].total]))
        risks.append((totals[1], strips[1].total))
        progress()
    rows = [_row(rhythm, name, np.concatenate(parts, axis=1)) for rhythm, columns in table.items()
            for name, parts in columns.items()]  # fmt: skip
    both = np.concatenate([np.stack(pair) for pair in risks], axis=1)
    return {"readings": rows, "n": both.shape[1], "risk_correlation": float(np.corrcoef(both)[0, 1])}


def _row(rhythm: str, name: str, values: np.ndarray) -> dict[str, Any]:
    """Bias and SD of a reading, beside how well a measurement repeats itself."""
    vitals, strip, again = values
    with np.errstate(all="ignore"):
        difference, repeat = vitals - strip, (strip - again) / np.sqrt(2)
    difference, repeat = _trimmed(difference), _trimmed(repeat)
    n = len(difference)
    return {
        "rhythm": rhythm, "reading": name, "n": n,
        "bias": float(difference.mean()) if n else None,
        "bias_se": float(difference.std() / np.sqrt(n)) if n else None,
        "sd": float(difference.std()) if n else None,
        "repeatability": float(repeat.std()) if len(repeat) else None,
        "read_by_vitals": float(np.isfinite(vitals).mean()), "read_by_strip": float(np.isfinite(strip).mean()),
    }  # fmt: skip


def _trimmed(x: np.ndarray) -> np.ndarray:
    x = x[np.isfinite(x)]
    if len(x) < 5:
        return x
    low, high = np.quantile(x, [LARGEST, 1 - LARGEST])
    return x[(x >= low) & (x <= high)]


def policy_returns(size: Size, progress: Callable[[], None]) -> list[dict[str, Any]]:
    """Mean returns of fixed policies, with strips and without, the same patients in both [-risk-hours]."""
    import gymnasium as gym

    from ecg_gym.envs.scenarios import load_scenarios
    from training.evaluation.benchmark.scores import gaps

    scale = gaps()

    rows = []
    for scenario in list(load_scenarios())[: size.scenarios]:
        means: dict[str, list[float]] = {}
        for fidelity in ("strip", "vitals"):
            envs: Any = gym.make_vec("ECGInterventionOracle-v0", num_envs=size.episodes, scenario=scenario,
                                     fidelity=fidelity)  # fmt: skip
            menu = len(envs.unwrapped.menu)
            entries = np.unique(np.linspace(0, menu - 1, POLICIES).round().astype(int))
            means[fidelity] = [_mean_return(envs, int(entry)) for entry in entries]
            progress()
        gap = scale.get(scenario, max(means["strip"]) - min(means["strip"]))
        for k, (strip, vitals) in enumerate(zip(means["strip"], means["vitals"])):
            rows.append({"scenario": scenario, "entry": int(entries[k]), "strip": strip, "vitals": vitals, "gap": gap})
    return rows


def _mean_return(envs: Any, entry: int) -> float:
    """One episode of every row: ``entry`` wherever it is allowed."""
    _, info = envs.reset(seed=1000)
    total, over = np.zeros(envs.num_envs), np.zeros(envs.num_envs, bool)
    hours = np.broadcast_to(envs.unwrapped.episode.state.dt_hours, envs.num_envs)
    while not over.all():
        action = np.where(info["action_mask"][:, entry] > 0, entry, 0)
        _, reward, terminated, truncated, info = envs.step(action)
        total += np.where(over, 0.0, reward * hours)
        over |= terminated | truncated
    return float(total.mean())
