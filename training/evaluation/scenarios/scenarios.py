"""What is a scenario worth? The anchors' episodes in the virtual patient; ``scenarios_page`` makes cards of them.

Watching, random, the best constant of each patient, the guideline and the closed-loop search in the truth play patients
of the validation stream through ``evaluation`` (rows resume): a scenario is worth planning in if the best of those who
know the truth is ahead of random, of watching and of the guideline. Beside that: whether the learned world knows which
way the treatment that helps most moves its interval.
"""

from __future__ import annotations

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
from ecg_gym.statistics import bootstrap
from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.benchmark.evaluation import Entry, Evaluation, evaluate, jobs, table
from training.evaluation.benchmark.scores import Table

ANCHORS = ("watch", "random", "guideline", "constant-search", "truth-search")
TOP = ("constant-search", "truth-search")  # know the truth; the higher mean of a scenario is the far end of its gap
START = 600_000_000  # of the validation stream: seeds from here on are this study's own
FUTURES = 4  # of each person, treated and untreated, when the worlds are asked which way a treatment goes
RESAMPLES = 2000


def evaluation_of(scenarios: Sequence[str], episodes: int) -> Evaluation:
    """Who is played: ``episodes`` patients of each scenario, judged by vitals."""
    return Evaluation("validation", tuple(scenarios), episodes, START, fidelity="vitals")


def play(
    evaluation: Evaluation, folder: Path, staff: Callable[[], Executor],
    progress: Callable[[int, int], None] = lambda *_: None,
    go_on: Callable[[], bool] = lambda: True,
) -> dict[str, Table]:  # fmt: skip
    """The anchors' rows by name, those that are missing played first (``staff()`` does it)."""
    entries = {name: Entry(name) for name in ANCHORS}
    if any(jobs(evaluation, entry, folder) for entry in entries.values()):
        executor = staff()
        try:
            for done, total in evaluate(evaluation, list(entries.values()), folder, executor, go_on):
                progress(done, total)
        finally:
            executor.close()
    return {name: table(evaluation, entry, folder) for name, entry in entries.items()}


def study(evaluation: Evaluation, rows: Mapping[str, Table], signs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The document: per scenario and anchor the return [risk-hours], its interval, deaths and harm; and ``signs``."""
    scenarios = {}
    for name in evaluation.scenarios:
        anchors = {anchor: _anchor(played[name][0]) for anchor, played in rows.items() if played[name][0]}
        scenarios[name] = {"anchors": anchors, "gap": _gap(anchors)}
    return {
        "study": "scenarios",
        "protocol_sha256": evaluation.sha256,
        "n_patients": evaluation.episodes * len(evaluation.scenarios),
        "seeds": [evaluation.start],
        "scenarios": scenarios,
        "signs": list(signs),
    }


def _anchor(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    returns = -np.array([row["risk_hours"] for row in rows])
    mean, interval = bootstrap(lambda sample: returns[sample].mean(axis=-1), [len(returns)], RESAMPLES, seed=0)
    return {
        "episodes": len(rows),
        "return": mean,
        "return_ci95": interval,
        "deaths": 1000 * float(np.mean([row["died"] for row in rows])),
        "harm": 1000 * float(np.mean([row["harm"] for row in rows])),
    }


def _gap(anchors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How far the best that know the truth are ahead of random, and the share of it that the guideline covers."""
    values = [anchors[name]["return"] for name in TOP if name in anchors]
    if not values or "random" not in anchors:
        return {"value": None, "guideline": None}
    value = max(values) - anchors["random"]["return"]
    ahead = anchors["guideline"]["return"] - anchors["random"]["return"] if "guideline" in anchors else np.nan
    return {"value": value, "guideline": float(ahead / value) if value > 0 and np.isfinite(ahead) else None}


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per scenario and anchor, for the terminal."""
    return [
        {"scenario": name, "anchor": anchor, **row}
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
        view = world.start_from(state)  # type: ignore[attr-defined]
        row: dict[str, Any] = {"scenario": scenario.name, "treatment": str(treatment), "moves": moves}
        for name, place, here in (("true", truth, state), ("model", world, view)):
            change, riskier = _change(place, here, treatment, moves, risk, seed)
            row |= {f"{name}_change": change, f"{name}_risk": riskier}
        rows.append(row)
    return rows


def _change(
    world: World, state: State, treatment: Treatment, moves: str, risk: RiskModel, seed: int
) -> tuple[float, float]:
    crowd, after = state.repeat(FUTURES), []
    for arm in (treatment, WATCH):
        rngs = step_noise([(seed, 18, row) for row in range(len(crowd))], 0)
        later = advance(world, crowd, [arm] * len(crowd), rngs)
        after.append(risk(crowd.ecg, later.ecg, later.patients, later.alive))
    change = getattr(after[0].intervals, moves) - getattr(after[1].intervals, moves)
    return float(np.nanmean(change)), float(np.nanmean(after[0].total - after[1].total))
