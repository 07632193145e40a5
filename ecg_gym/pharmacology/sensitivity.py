"""What makes one person's drug response differ from another's: hidden, drawn once, kept for life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from ecg_gym.core import Patient, Randomness, row_generators
from ecg_gym.pharmacology.constants import Block, read_table


@dataclass(frozen=True)
class Sensitivity:
    """One person's differences. Kinetic entries are standard normal scores, the others factors; typical is 0 and 1.

    ``notch`` is a share around 0.
    """

    cyp3a: float = 0.0  # score of clearance by this pathway
    cyp2d6: float = 0.0
    renal: float = 0.0
    other: float = 0.0
    volume: float = 0.0  # score of volumes of distribution
    absorption: float = 0.0  # score of the rate of absorption
    fraction: float = 0.0  # score of bioavailability
    poor_metaboliser: float = 0.0  # 1 in a CYP2D6 poor metaboliser
    ikr: float = 1.0  # factor on the potency at the channel
    ical: float = 1.0
    inal: float = 1.0
    ina: float = 1.0
    av_node: float = 1.0  # factor on effects on AV delay and AV conduction
    sinus_node: float = 1.0  # factor on effects on the sinus rate
    notch: float = 0.0  # share of the IKr prolongation that a notched T wave moves from J-Tpeak to Tpeak-Tend
    electrolyte: float = 1.0  # factor on shifts of electrolytes into and out of cells
    equilibration: float = 1.0  # factor on ke0
    day: float = 1.0  # factor on the drift over the day
    iks: float = 1.0  # factor on the potency at the channel
    dispersion: float = 1.0  # factor on what blocks do to the dispersion of repolarisation, so to Tpeak-Tend

    @classmethod
    def typical(cls) -> Sensitivity:
        """The person in the middle."""
        return TYPICAL

    @classmethod
    def of_many(cls, people: Sequence[Sensitivity], rows: np.ndarray) -> Sensitivity:
        """Every entry an array ``(N,)``, that of ``people[rows[n]]`` at n: for laws that work on many looks at once."""
        return cls(*np.array([person.as_array() for person in people]).T[:, rows])

    def as_array(self) -> np.ndarray:
        """All entries, ``(n,)`` float64, in the order of ``NAMES``: for a state that keeps arrays."""
        return np.array([getattr(self, name) for name in NAMES])

    @classmethod
    def from_array(cls, row: np.ndarray) -> Sensitivity:
        """The inverse of ``as_array``."""
        return cls(*map(float, row))


NAMES = tuple(f.name for f in fields(Sensitivity))
TYPICAL = Sensitivity()
_SCORES = ("cyp3a", "cyp2d6", "renal", "other", "volume", "absorption", "fraction")
_FACTORS = (
    "ikr",
    "ical",
    "inal",
    "ina",
    "av_node",
    "sinus_node",
    "electrolyte",
    "equilibration",
    "day",
    "iks",
    "dispersion",
)


SICK_SINUS = "sick_sinus"  # the condition in which the sinus node answers less


@cache
def _spread() -> dict[str, float]:
    """SD of the logarithm of each factor, and the share of poor metabolisers."""
    table = Block.of("sensitivity", read_table("sensitivity.yaml"))
    table.expect({*_FACTORS, "notch", "poor_metaboliser_cyp2d6", SICK_SINUS})
    spread = {name: table.number(name, "ln") for name in _FACTORS}
    shares = {"notch": table.number("notch", "1"), "poor_metaboliser": table.number("poor_metaboliser_cyp2d6", "1")}
    return spread | shares | {SICK_SINUS: table.number(SICK_SINUS, "1")}


def draw_sensitivities(patients: Sequence[Patient], rng: Randomness) -> tuple[Sensitivity, ...]:
    """One ``Sensitivity`` per patient, independent, from the distributions of ``sensitivity.yaml``.

    A patient with the condition ``poor_metaboliser_cyp2d6`` is one; others are with the population's frequency. The
    node of one with ``sick_sinus`` answers less.
    """
    return tuple(_draw(p, g) for p, g in zip(patients, row_generators(rng, len(patients))))


def _draw(patient: Patient, rng: np.random.Generator) -> Sensitivity:
    spread = _spread()
    scores = dict(zip(_SCORES, map(float, rng.standard_normal(len(_SCORES)))))
    factors = {name: float(np.exp(spread[name] * rng.standard_normal())) for name in _FACTORS}
    factors["sinus_node"] *= spread[SICK_SINUS] if SICK_SINUS in patient.conditions else 1.0
    notch = float(spread["notch"] * rng.standard_normal())
    is_poor = "poor_metaboliser_cyp2d6" in patient.conditions
    poor = float(rng.random() < spread["poor_metaboliser"] or is_poor)
    return Sensitivity(**scores, **factors, notch=notch, poor_metaboliser=poor)
