"""check_world is silent for a world that keeps the promises, and names the promise that each broken one breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from worlds import AnalyticWorld

from ecg_gym.checks import check_world
from ecg_gym.core import WATCH, Dose, State, Treatment

TREATMENTS = [
    WATCH,
    Treatment((Dose("metoprolol", 50.0, "mg", "PO"),)),
    Treatment((Dose("dofetilide", 0.5, "mg", "PO"),)),
]


def test_the_analytic_world_keeps_every_promise() -> None:
    check_world(AnalyticWorld(), TREATMENTS)


@dataclass(frozen=True)
class Spoilt(AnalyticWorld):
    """The analytic world with its step spoilt by ``spoil(before, after)``."""

    spoil: Callable[[State, State], State] = lambda before, after: after

    def step(self, state, treatments, rng):
        return self.spoil(state, super().step(state, treatments, rng))


SPOILT = {
    "forgets what was given": (lambda s, t: replace(t, doses=s.doses), "remembers"),
    "stops the clock": (lambda s, t: replace(t, hours=s.hours), "hours went"),
    "returns double precision": (lambda s, t: replace(t, ecg=t.ecg.astype(float)), "dtype"),
    "mixes the rows": (lambda s, t: replace(t, ecg=(t.ecg + t.ecg.mean(axis=0)).astype(np.float32)), "alone"),
    "breaks Einthoven": (lambda s, t: replace(t, ecg=t.ecg + np.eye(12, 1, dtype=np.float32)), "Einthoven"),
    "uses microvolt": (lambda s, t: replace(t, ecg=1000 * t.ecg), "mV"),
    "is a mean": (lambda s, t: replace(t, ecg=s.ecg.copy()), "sample"),
    "wakes the dead": (lambda s, t: replace(t, alive=np.ones(len(t), bool)), "not alive"),
    "uses the global generator": (
        lambda s, t: replace(t, alive=t.alive & (np.random.rand() < 2)),  # noqa: NPY002
        "global",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_world_that_breaks_a_promise_is_told_which(name: str) -> None:
    spoil, words = SPOILT[name]
    with pytest.raises(AssertionError, match=words):
        check_world(Spoilt(spoil=spoil), TREATMENTS)


def test_a_world_that_writes_into_its_input_is_caught() -> None:
    def spoil(before: State, after: State) -> State:
        before.ecg[...] = 0
        return after

    with pytest.raises(AssertionError, match="handed in"):
        check_world(Spoilt(spoil=spoil), TREATMENTS)


@pytest.mark.slow
def test_the_world_model_keeps_every_promise() -> None:
    from ecg_gym.world_model import WorldModel

    check_world(WorldModel.load())


def test_something_that_is_no_world_is_caught() -> None:
    with pytest.raises(AssertionError, match="lacks"):
        check_world(object(), TREATMENTS)
