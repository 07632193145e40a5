"""One analytic world, a few doses and a plan over them, for tests of planners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import Dose, Treatment
from planners import plan


def dose(drug: str, amount: float) -> Treatment:
    return Treatment((Dose(drug, amount, "mg", "PO"),))


METOPROLOL, DOFETILIDE, MOXIFLOXACIN, ATROPINE = (
    dose(*x) for x in [("metoprolol", 50.0), ("dofetilide", 0.5), ("moxifloxacin", 400.0), ("atropine", 1.0)]
)
PLACEBO = dose("placebo", 1.0)  # the analytic world does not know it: it does nothing
WORLD = AnalyticWorld()
MENU = (DOFETILIDE, ATROPINE, METOPROLOL, MOXIFLOXACIN, PLACEBO)


@dataclass(frozen=True)
class Objection:
    sentence: str
    hard: bool


def no_rules(*_args: object, **_kwargs: object) -> tuple[()]:
    return ()


def start(world: AnalyticWorld = WORLD, **who: float):
    return world.initial(1, np.random.default_rng(3), **{"hr_bpm": 75.0, "qtcf_ms": 430.0, **who})


def planned(world: AnalyticWorld = WORLD, candidates=MENU, **options):
    options = {"risk": AnalyticRisk(), "rules": no_rules, "k": 8, **options}
    return plan(world, options.pop("state", start()), candidates, **options)
