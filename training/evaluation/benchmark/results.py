"""``document(protocol, agents, rows)``: what the rows say, as one JSON document. Higher is better, 1 is the oracle.

A score is the return of an episode in the virtual patient. It is normalised by the scenario's mean returns of the
random agent (0) and of the oracle (1). Where oracle and random cannot be told apart that number means nothing: such
scenarios are flagged, shown, and left out of the means.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ecg_gym.statistics import bootstrap, cvar, iqm, p_better
from planners.plan import NOTICE, jsonable
from training.evaluation.benchmark.base import Contestant
from training.evaluation.benchmark.protocol import MODEL, TRUTH, Protocol, model_sha256, risk_sha256
from training.evaluation.benchmark.run import Stored, expected_rows
from training.evaluation.benchmark.storage import Row

RANDOM, ORACLE, HEURISTIC, WATCH = "random", "oracle", "guideline", "watch"
LEAST_GAP = 0.01  # of mean risk per step between random and oracle, below which there is nothing to be won


class Table:
    """One column per episode of an agent in one world, in the order of seed and episode."""

    def __init__(self, rows: dict[Any, Row], world: str) -> None:
        self.keys = sorted((seed, episode) for place, seed, episode in rows if place == world)
        self._rows = [rows[world, *key] for key in self.keys]

    def of(self, name: str) -> np.ndarray:
        """One number per episode."""
        return np.array([float(row[name]) for row in self._rows])

    def at(self, keys: Sequence[tuple[int, int]], name: str = "return") -> np.ndarray:
        """One number for each of these episodes."""
        place = {key: i for i, key in enumerate(self.keys)}
        return self.of(name)[[place[key] for key in keys]] if keys else np.zeros(0)


def document(
    protocol: Protocol, agents: Sequence[Contestant], rows: Stored, lessons: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Strict JSON: protocol, hashes, every agent in every scenario, and over the scenarios.

    ``lessons`` is what is known of trainings, ``[scenario][agent]``; it is handed on.
    """
    scenarios = {name: _scenario(protocol, name, agents, rows) for name in protocol.scenarios}
    sound = [name for name, result in scenarios.items() if result["well_defined"]]
    due = sum(1 for _ in protocol.scenarios for who in agents for _ in expected_rows(protocol, who))
    there = sum(len(result) for result in rows.values())
    return jsonable(
        {
            "notice": NOTICE,
            "protocol_sha256": protocol.sha256,
            "model_sha256": model_sha256(protocol.model),
            "risk_sha256": risk_sha256(protocol.risk),
            "package_version": importlib.metadata.version("ecg-gym"),
            "revisions": sorted({str(row.get("revision", "")) for result in rows.values() for row in result.values()}),
            "episodes_played": there,
            "episodes_missing": due - there,
            "agents": {
                who.name: {"kind": who.kind, "says": who.says, "settings": dict(who.settings)} for who in agents
            },
            "scenarios": {name: {k: v for k, v in result.items() if k != "_"} for name, result in scenarios.items()},
            "lessons": dict(lessons or {}),
            "not_well_defined": sorted(set(scenarios) - set(sound)),
            "mean": {who.name: _over(protocol, who.name, [scenarios[name]["_"] for name in sound]) for who in agents},
            "protocol": protocol.to_json_dict(),
        }
    )


def _scenario(protocol: Protocol, scenario: str, agents: Sequence[Contestant], rows: Stored) -> dict[str, Any]:
    truth = {who.name: Table(rows[scenario, who.name], TRUTH) for who in agents}
    inside = {who.name: Table(rows[scenario, who.name], MODEL) for who in agents}
    low, high = truth.get(RANDOM), truth.get(ORACLE)
    gap: dict[str, Any] = {"value": None, "ci95": None, "episodes": 0}
    anchors = (np.nan, np.nan)
    if low is not None and high is not None and (common := sorted(set(low.keys) & set(high.keys))):
        difference = high.at(common) - low.at(common)
        value, interval = bootstrap(_mean(difference), strata(common), protocol.resamples, protocol.bootstrap_seed)
        gap = {"value": value, "ci95": interval, "episodes": len(common)}
        anchors = float(low.at(common).mean()), float(high.at(common).mean())
    sound = bool(gap["ci95"] and gap["ci95"][0] > 0 and gap["value"] >= LEAST_GAP * protocol.steps(scenario))
    scored = {name: _normalised(table.of("return"), anchors) for name, table in truth.items()}
    return {
        "well_defined": sound,
        "random_return": anchors[0],
        "oracle_return": anchors[1],
        "oracle_minus_random": gap,
        "agents": {name: _agent(protocol, scenario, name, truth, inside[name], scored[name]) for name in truth},
        "_": (truth, scored),
    }


def _agent(
    protocol: Protocol, scenario: str, name: str, truth: dict[str, Table], inside: Table, scored: np.ndarray
) -> dict[str, Any] | None:
    """Everything about one agent in one scenario; None before its first episode."""
    table = truth[name]
    if not table.keys:
        return None

    def sure(statistic: Callable[[np.ndarray], np.ndarray], keys: Sequence[tuple[int, int]]) -> dict[str, Any]:
        value, ci95 = bootstrap(statistic, strata(keys), protocol.resamples, protocol.bootstrap_seed)
        return {"value": value, "ci95": ci95}

    def against(other: str) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        keys = sorted(set(table.keys) & set(truth[other].keys)) if other in truth else []
        return keys, table.at(keys), truth[other].at(keys) if keys else np.zeros(0)

    result: dict[str, Any] = {"episodes": len(table.keys)}
    returns = table.of("return")
    mean = sure(_mean(returns), table.keys)
    middle = sure(lambda rows: iqm(scored[rows]), table.keys)
    result |= {"normalised_iqm": middle["value"], "ci95": middle["ci95"]}
    result |= {"return": mean["value"], "return_ci95": mean["ci95"]}
    closed = sure_gap(protocol, table, truth)
    result |= {"gap_closed": closed["value"], "gap_closed_ci95": closed["ci95"]}
    steps = table.of("steps")
    result["cost_rate"] = float((table.of("cost") * steps).sum() / steps.sum())
    result["cvar10"] = float(cvar(returns))
    for other, label in ((HEURISTIC, "heuristic"), (WATCH, "watch")):
        keys, ours, theirs = against(other)
        chance = sure(_better(ours, theirs), keys) if keys else NOTHING
        ahead = sure(_mean(ours - theirs), keys) if keys else NOTHING
        result |= {f"p_beats_{label}": chance["value"], f"p_beats_{label}_ci95": chance["ci95"]}
        result |= {f"ahead_of_{label}": ahead["value"], f"ahead_of_{label}_ci95": ahead["ci95"]}
    result["model_calls"] = float((table.of("model_calls") * steps).sum() / steps.sum())
    common = sorted(set(inside.keys) & set(table.keys))
    gap = sure(_mean(inside.at(common) - table.at(common)), common) if common else NOTHING
    result |= {"exploitation_gap": gap["value"], "exploitation_gap_ci95": gap["ci95"], "episodes_inside": len(common)}
    keys, ours, best = against(ORACLE)
    regret = sure(_mean((best - ours) / protocol.steps(scenario)), keys) if keys else NOTHING
    result |= {"regret_per_step": regret["value"], "regret_per_step_ci95": regret["ci95"]}
    result["death_rate"] = float(table.of("died").mean())
    result["seconds_per_decision"] = float((table.of("seconds") * steps).sum() / steps.sum())
    result["cpu_seconds_per_decision"] = float((table.of("cpu_seconds") * steps).sum() / steps.sum())
    result["refused_per_step"] = float(table.of("refused").sum() / steps.sum())
    result["nonfinite"] = int(table.of("nonfinite").sum())
    return result


NOTHING: dict[str, Any] = {"value": None, "ci95": None}


def sure_gap(protocol: Protocol, table: Table, truth: dict[str, Table]) -> dict[str, Any]:
    """Share of the gap from the mean random to the mean oracle return that was closed; all three resampled together."""
    if RANDOM not in truth or ORACLE not in truth:
        return NOTHING
    keys, share = _share(table, truth)
    if not keys:
        return NOTHING
    value, ci95 = bootstrap(share, strata(keys), protocol.resamples, protocol.bootstrap_seed)
    return {"value": value, "ci95": ci95}


def _share(table: Table, truth: dict[str, Table]) -> tuple[list[tuple[int, int]], Callable[[np.ndarray], np.ndarray]]:
    """The episodes that an agent and both anchors have played, and the share of the gap closed in chosen ones."""
    keys = sorted(set(table.keys) & set(truth[RANDOM].keys) & set(truth[ORACLE].keys))
    ours, low, high = table.at(keys), truth[RANDOM].at(keys), truth[ORACLE].at(keys)

    def share(rows: np.ndarray) -> np.ndarray:
        below, above = low[rows].mean(axis=-1), high[rows].mean(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(above == below, np.nan, (ours[rows].mean(axis=-1) - below) / (above - below))

    return keys, share


def _over(protocol: Protocol, name: str, scenarios: Sequence[tuple[dict[str, Table], dict[str, np.ndarray]]]) -> Any:
    """An agent over the scenarios whose normalised score is well defined: IQM and mean of all its episodes."""
    played = [(truth[name], scored[name]) for truth, scored in scenarios if truth[name].keys]
    if not played or len(played) < len(scenarios):
        return {"normalised_iqm": None, "ci95": None, "gap_closed": None, "gap_closed_ci95": None,
                "scenarios": len(played)}  # fmt: skip
    values = np.concatenate([scored for _, scored in played])
    sizes = [n for table, _ in played for n in strata(table.keys)]
    middle, middle_ci = bootstrap(lambda rows: iqm(values[rows]), sizes, protocol.resamples, protocol.bootstrap_seed)
    mean, mean_ci = _mean_gap(protocol, name, [truth for truth, _ in scenarios])
    return {"normalised_iqm": middle, "ci95": middle_ci, "gap_closed": mean, "gap_closed_ci95": mean_ci,
            "scenarios": len(played)}  # fmt: skip


def _mean_gap(protocol: Protocol, name: str, scenarios: Sequence[dict[str, Table]]) -> tuple[Any, Any]:
    """The mean over scenarios of the share of the gap that was closed; agent and anchors resampled together."""
    shares, sizes, stop = [], [], 0
    for truth in scenarios:
        keys, share = _share(truth[name], truth)
        sizes += strata(keys)
        shares.append((slice(stop, stop + len(keys)), stop, share))
        stop += len(keys)

    def mean(rows: np.ndarray) -> np.ndarray:
        return np.mean([share(rows[..., place] - start) for place, start, share in shares], axis=0)

    return bootstrap(mean, sizes, protocol.resamples, protocol.bootstrap_seed)


def _normalised(returns: np.ndarray, anchors: tuple[float, float]) -> np.ndarray:
    """0 for the mean random return, 1 for the mean oracle's; NaN where they are the same or not known."""
    low, high = anchors
    return (returns - low) / (high - low) if high != low else np.full(len(returns), np.nan)


def _mean(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: values[rows].mean(axis=-1)


def _better(ours: np.ndarray, theirs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: p_better(ours[rows], theirs[rows])


def strata(keys: Sequence[tuple[int, int]]) -> list[int]:
    """How many episodes each seed has; the keys are sorted."""
    return [int(n) for n in np.unique([seed for seed, _ in keys], return_counts=True)[1]]
