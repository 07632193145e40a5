"""What is a scenario worth? The anchors' episodes in the virtual patient; ``scenarios_page`` makes cards of them.

Random, watching, the best constant treatment, the guideline and the oracle play the benchmark's own episodes (rows are
shared with it and resume): a scenario is worth planning in if the oracle is ahead of random, of watching and of the
best constant. Beside that: whether the learned world knows which way the treatment that helps most moves its interval.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import scenario_named
from ecg_gym.executor import Executor
from ecg_gym.risk import RiskModel
from ecg_gym.rollout import advance, step_noise
from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.benchmark.agents import ANCHORS, contestants
from training.evaluation.benchmark.base import Contestant
from training.evaluation.benchmark.protocol import TRUTH, Protocol
from training.evaluation.benchmark.results import document
from training.evaluation.benchmark.run import Stored, cells, missing, run, stored

KEPT = ("episodes", "return", "return_ci95", "gap_closed", "gap_closed_ci95", "cost_rate", "death_rate")
FUTURES = 4  # of each person, treated and untreated, when the worlds are asked which way a treatment goes


def protocol_of(scenarios: Sequence[str], episodes: int, seeds: int = 1) -> Protocol:
    """The benchmark's protocol for the anchors alone: the same patients, nothing inside the learned model."""
    return Protocol(scenarios=tuple(scenarios), episodes=episodes, seeds=seeds, inside=0)


def play(
    protocol: Protocol, folder: Path, staff: Callable[[], Executor],
    progress: Callable[[int, int], None] = lambda *_: None,
    go_on: Callable[[], bool] = lambda: True,
) -> Stored:  # fmt: skip
    """The anchors' rows, those that are missing played first (``staff()`` does it); the folder is the benchmark's."""
    who = contestants(ANCHORS)
    if missing(protocol, who, folder):
        executor = staff()
        try:
            for done, total, _ in run(protocol, who, folder, executor, go_on):
                progress(done, total)
        finally:
            executor.close()
    return stored(protocol, who, folder)


def study(protocol: Protocol, folder: Path, rows: Stored, signs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The document: per scenario and anchor the return with its interval, cost, deaths; and ``signs`` of the worlds."""
    who = contestants(ANCHORS)
    result = document(protocol, who, rows)
    constants = _constants(protocol, who, folder)
    return {
        "study": "scenarios",
        "protocol_sha256": result["protocol_sha256"],
        "risk_sha256": result["risk_sha256"],
        "model_sha256": result["model_sha256"],
        "n_patients": protocol.episodes * protocol.seeds * len(protocol.scenarios),
        "seeds": list(range(protocol.seeds)),
        "scenarios": {
            name: {
                "gap": one["oracle_minus_random"],
                "constant": constants.get(name, []),
                "anchors": {
                    anchor: {key: row[key] for key in KEPT} | {"deaths_per_hour": _deaths(rows[name, anchor])}
                    for anchor, row in one["agents"].items()
                    if row is not None
                },
            }
            for name, one in result["scenarios"].items()
        },
        "signs": list(signs),
    }


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per scenario and anchor, for the terminal."""
    return [
        {
            "scenario": name,
            "anchor": anchor,
            "episodes": row["episodes"],
            "return": row["return"],
            "return_ci95": row["return_ci95"],
            "gap_closed": row["gap_closed"],
            "cost_rate": row["cost_rate"],
            "deaths_per_hour": row["deaths_per_hour"],
        }
        for name, one in result["scenarios"].items()
        for anchor, row in one["anchors"].items()
    ]


def signs(world: World, scenarios: Sequence[str], people: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """What the treatment that helps most does within the hour in the virtual patient and in a learned ``world``.

    Per scenario that has one: the mean change against watching of its interval and of the risk in either world, over
    ``people`` virtual patients and ``FUTURES`` futures each, under common random numbers.
    """
    truth, risk = VirtualPatient(dt_hours=world.dt_hours), RiskModel.load()
    rows = []
    for scenario in map(scenario_named, scenarios):
        if scenario.helps is None:
            continue
        treatment, moves = scenario.helps
        state = start(truth, scenario, [np.random.default_rng([seed, 17, i]) for i in range(people)])
        seen = world.start_from(state)  # type: ignore[attr-defined]
        row: dict[str, Any] = {"scenario": scenario.name, "treatment": str(treatment), "moves": moves}
        for name, place, here in (("true", truth, state), ("model", world, seen)):
            change, riskier = _change(place, here, treatment, moves, risk, seed)
            row |= {f"{name}_change": change, f"{name}_risk": riskier}
        rows.append(row)
    return rows


def _change(
    world: World, state: State, treatment: Treatment, moves: str, risk: RiskModel, seed: int
) -> tuple[float, float]:
    crowd, after = state.repeat(FUTURES), []
    for given in (treatment, WATCH):
        rngs = step_noise([(seed, 18, row) for row in range(len(crowd))], 0)
        later = advance(world, crowd, [given] * len(crowd), rngs)
        after.append(risk(crowd.ecg, later.ecg, later.patients, later.alive))
    moved = getattr(after[0].intervals, moves) - getattr(after[1].intervals, moves)
    return float(np.nanmean(moved)), float(np.nanmean(after[0].total - after[1].total))


def _deaths(rows: Mapping[Any, Mapping[str, Any]]) -> float:
    """Deaths per hour lived, over the episodes in the virtual patient."""
    there = [row for (place, *_), row in rows.items() if place == TRUTH]
    return float(sum(row["died"] for row in there) / sum(row["steps"] for row in there)) if there else np.nan


def _constants(protocol: Protocol, who: Sequence[Contestant], folder: Path) -> dict[str, list[str]]:
    """The best constant of each seed, as its preparation left it."""
    result: dict[str, list[str]] = {}
    for (scenario, name, _), cell in cells(protocol, who, folder).items():
        for seed in range(protocol.seeds) if name == "constant" else ():
            if cell.artefact(seed).is_file():
                result.setdefault(scenario, []).append(json.loads(cell.artefact(seed).read_bytes())["treatment"])
    return result
