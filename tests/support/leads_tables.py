"""Small tables of made-up fits whose best candidate is known, so that the environment and its agents need no fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecg_gym.tissue.diagnostics import DIAGNOSTICS
from training.leads.outcome import Outcome
from training.leads.structure import SMALL, Candidate, Space
from training.leads.table import Case

COST = {"iso": 0.8, "aniso": 0.7, "spline": 0.0}  # log10 of the error above the best
PARAMETERS = {"iso": 1, "aniso": 2, "spline": 17}


def case(truth: str = "ms", seed: int = 0, space: Space = SMALL, unstable: Sequence[str] = ()) -> Case:
    """A heart whose best structure is ``truth/spline`` without a residual; fits of ``unstable`` reactions diverge."""
    rng = np.random.default_rng([seed, *truth.encode()])
    outcomes = {}
    for candidate in space.candidates:
        spec = candidate.spec
        wrong = spec.reaction != truth
        log_error = -3.0 + COST.get(spec.diffusion, 0.5) + 0.9 * wrong + 0.1 * (spec.residual != "none")
        log_error += 0.3 * (candidate.effort < 1) + 0.01 * float(rng.standard_normal())
        notes = dict.fromkeys(DIAGNOSTICS, 0.0)
        notes |= {
            "apd_error_ms": 1.0 + 20.0 * wrong,
            "plateau_error": 0.1 * wrong,
            "activation_error_ms": 1.0 + 10.0 * COST.get(spec.diffusion, 0.5),
            "distance_correlation": COST.get(spec.diffusion, 0.5),
        }
        stable = spec.reaction not in unstable
        error = 10**log_error if stable else 1.0
        count = 5 + PARAMETERS.get(spec.diffusion, 40) + 300 * (spec.residual != "none")
        outcomes[candidate] = Outcome(0.9 * error, error, stable, count, 0.0, 0.7, notes)
    maes = {candidate: math.sqrt(outcome.validation_error) for candidate, outcome in outcomes.items()}
    return Case(truth, seed, "voltage", 0.1, outcomes, maes)


def cases(seeds: Sequence[int] = range(3)) -> list[Case]:
    """Hearts of four truths."""
    return [case(truth, seed) for truth in ("ap", "ms", "fhn", "rm") for seed in seeds]


def write(path: Path) -> Path:
    """A table file of them."""
    from training.leads.table import write_table

    write_table(cases(), path)
    return path


def best(truth: str) -> Candidate:
    """The best structure of a heart."""
    from ecg_gym.tissue import Spec

    return Candidate(Spec(truth, "spline", "none", 16, "medium"))
