"""Do plans made in the learned world help a heart of known truth? One decision each, judged in the virtual patient.

For virtual people of each scenario: the model sees the strip, ranks what the rules allow, and takes its favourite. What
that does is then drawn in the virtual patient, the mechanism itself, with the same risk model. Beside it: watching, a
random allowed treatment, and the oracle, which ranks in the virtual patient (with other seeds than those it is judged
by). Regret is the risk above the oracle's. The same risk model chooses and judges: this tests the world, not the risk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ecg_gym.core import ECG, MODEL_RATE_HZ, State, World
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import Scenario, scenario_named
from ecg_gym.powers import weights_hash
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from planners import Plan, plan

POLICIES = ("model", "watch", "random", "oracle")


def study(
    world: World,
    scenarios: Sequence[str],
    patients: int = 8,
    k: int = 8,
    risk_aversion: float = 0.6,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The study's document: per scenario the true mean risk after each policy's choice, 95 % intervals over people."""
    risk, truth = RiskModel.load(), VirtualPatient(dt_hours=world.dt_hours)
    rows = []
    for name in scenarios:
        result = []
        for person in range(patients):
            result.append(_decide(world, truth, risk, scenario_named(name), k, risk_aversion, [seed, person]))
            progress()
        rows.append({"scenario": name, "n_patients": patients, **_summary(result, np.random.default_rng(seed))})
    return {
        "study": "plans",
        "model_sha256": weights_hash(world),
        "n_patients": patients * len(scenarios),
        "k": k,
        "risk_aversion": risk_aversion,
        "seeds": [seed],
        "rows": rows,
    }


def _decide(
    world: World,
    truth: VirtualPatient,
    risk: RiskModel,
    scenario: Scenario,
    k: int,
    risk_aversion: float,
    seed: list[int],
) -> dict[str, float]:
    """True mean risk after each policy's choice for one person, and how well the model orders the candidates."""
    rng = np.random.default_rng(seed)
    state = start(truth, scenario, rng)
    view = world.observe(ECG(state.ecg[0], MODEL_RATE_HZ), state.patients[0], state.doses[0])
    menu = scenario.menu

    def ranked(where: World, at: State, draw: int) -> Plan:
        return plan(where, at, menu, risk, k=k, risk_aversion=risk_aversion, seed=1000 * seed[1] + draw)

    imagined, reference, oracle = ranked(world, view, 0), ranked(truth, state, 1), ranked(truth, state, 2)
    true = {str(row.treatment): row.mean for row in reference.candidates}
    expected = {str(row.treatment): row.mean for row in imagined.candidates}
    common = [name for name in expected if name in true]  # the strips differ a little, so the rules may too
    choice = next(str(row.treatment) for row in imagined.candidates if str(row.treatment) in true)
    return {
        "model": true[choice],
        "watch": true["watch and wait"],
        "random": float(np.mean([true[name] for name in common])),
        "oracle": true.get(str(oracle.best.treatment), min(true.values())),
        "order": float(stats.spearmanr([expected[n] for n in common], [true[n] for n in common]).statistic),
        "candidates": float(len(common)),
    }


def _summary(result: list[dict[str, float]], rng: np.random.Generator) -> dict[str, Any]:
    table = {name: np.array([row[name] for row in result]) for name in (*POLICIES, "order", "candidates")}
    draws = rng.integers(len(result), size=(2000, len(result)))

    def interval(values: np.ndarray) -> list[float]:
        return [round(float(x), 3) for x in np.nanquantile(np.nanmean(values[draws], axis=1), [0.025, 0.975])]

    out: dict[str, Any] = {}
    for name in POLICIES:
        out |= {name: round(float(table[name].mean()), 3), f"{name}_ci": interval(table[name])}
    regret = table["model"] - table["oracle"]
    gap = float((table["random"] - table["oracle"]).mean())
    out |= {"regret": round(float(regret.mean()), 3), "regret_ci": interval(regret)}
    out["gap_closed"] = round(float((table["random"] - table["model"]).mean()) / gap, 2) if gap > 0.01 else None
    return out | {"order": round(float(np.nanmean(table["order"])), 2), "candidates": float(table["candidates"].mean())}
