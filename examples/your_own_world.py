"""A world of your own in twenty lines: nothing ever changes but the noise. Every honest model must beat it.

    python examples/your_own_world.py

`check_world` says whether it keeps the promises; then the env and all planners run on it. Here every drug must come out
tied with watching: a plan that finds a winner in this world is reading tea leaves.
"""

from dataclasses import dataclass, replace

import numpy as np

from ecg_gym.checks import check_world
from ecg_gym.core import Administration, State, limb_from_independent, row_generators
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from planners import Plan, plan


@dataclass(frozen=True)
class StillWorld:
    """The strip stays as it is, plus 10 microvolt of noise; drugs are remembered and do nothing."""

    dt_hours: float = 1.0
    people = VirtualPatient()

    def initial(self, n, rng, **who):
        return replace(self.people.initial(n, rng, **who), inner={})

    def observe(self, ecg, patient, doses=()):
        return replace(self.people.observe(ecg, patient, doses), inner={})

    def step(self, state: State, treatments, rng) -> State:
        if len(treatments) != len(state):
            raise ValueError(f"{len(treatments)} treatments for {len(state)} rows; expected one each; pass WATCH")
        noise = np.stack([limb_from_independent(g.normal(0, 0.01, (8, 1024))) for g in row_generators(rng, len(state))])
        new = [tuple(Administration(float(h), d) for d in t.doses) for h, t in zip(state.hours, treatments)]
        doses = tuple(before + after for before, after in zip(state.doses, new))
        later = replace(state, ecg=(state.ecg + noise).astype("f4"), doses=doses, hours=state.hours + self.dt_hours)
        return later.where(state.alive, state)


def main(drugs: tuple[str, ...] = ("dofetilide", "metoprolol"), k: int = 8) -> Plan:
    world = StillWorld()
    check_world(world)
    state = world.initial(1, np.random.default_rng(0))
    ranked = plan(world, state, FORMULARY.menu(drugs), RiskModel.limits_only(), k=k)
    for row in ranked.candidates:
        print(f"{row.treatment!s:28s} S {row.score:.3f}  {'tied with the best' if row.tie == 1 else ''}")
    return ranked


if __name__ == "__main__":
    main()
