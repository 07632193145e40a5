"""The formulary, the laws and the interactions as arrays: what the kernel of ``kernel.py`` reads.

Nothing is decided here: every number is that of the YAML tables, in the order of ``FORMULARY.names``. Laws, bindings
and interactions stand sorted by drug, and ``*_from (n + 1,)`` says where each drug's begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ecg_gym.pharmacology.circadian import _asleep, _day
from ecg_gym.pharmacology.drugs import CHANNELS, ELECTROLYTES, LAW_UNITS, ROUTES
from ecg_gym.pharmacology.effects import _CHANNEL_SENSITIVITY, _FACTORS, _SENSITIVITY_OF, _binders
from ecg_gym.pharmacology.exposure import reference_electrolytes, trend_hours
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.hazards import _AFTER_DOSE
from ecg_gym.pharmacology.interactions import interactions, steps_of
from ecg_gym.pharmacology.kinetics import Compartments
from ecg_gym.pharmacology.laws import Coefficients, coefficients
from ecg_gym.pharmacology.repolarisation import table
from ecg_gym.pharmacology.sensitivity import NAMES

TARGETS = tuple(name for name in LAW_UNITS if name not in ELECTROLYTES)  # the columns of a law's value
SITES = ("plasma", "effect", "metabolite")
FACTOR, SUM, SHARE = 0, 1, 2  # how laws of one target come together
_PARTS = ("meal", "turn", "lean", "sleep")
_DRIFTS = ("sinus_rate", "conduction", "pr_ms", "jtpeak_ms", "tpeak_tend_ms")

Figures = NamedTuple("Figures", [(f.name, float) for f in fields(Coefficients)])  # type: ignore[misc]


class Drugs(NamedTuple):
    """Everything about n drugs that the kernel needs."""

    kinetics: np.ndarray  # (n, 4, 14): the fields of Compartments of each route, for 70 kg; NaN where there is none
    renal: np.ndarray  # (n,) share of clearance
    poor: np.ndarray  # (n, 2) factor of poor metabolisers on clearance, and on the metabolite's formation
    spread: np.ndarray  # (n, 4) SD of ln: clearance, volume, absorption, fraction
    pathway: np.ndarray  # (n,) column of the sensitivity that goes with the hepatic clearance
    law: np.ndarray  # (L, 3) emax, ec50, hill
    law_kind: np.ndarray  # (L, 4) target, site, column of the sensitivity or -1, FACTOR, SUM or SHARE
    law_from: np.ndarray  # (n + 1,)
    ion: np.ndarray  # (I, 3) emax, ec50, hill of a law on an electrolyte
    ion_kind: np.ndarray  # (I, 2) electrolyte, site
    ion_from: np.ndarray  # (n + 1,)
    bind: np.ndarray  # (C, 3) nM x potency per ng/mL, ic50 [nM], hill
    bind_kind: np.ndarray  # (C, 3) site, channel, column of the sensitivity
    bind_from: np.ndarray  # (n + 1,)
    supply: np.ndarray  # (n,) mmol/L of an electrolyte per ng/mL in plasma; 0 for most
    supply_of: np.ndarray  # (n,) which electrolyte
    antidote_of: np.ndarray  # (n,) the drug that this one binds, or -1
    antidote_mg: np.ndarray  # (n,) mg bound by one mg
    stops: np.ndarray  # (n,) bool: standing orders, running infusions and other medication end with it
    procedure: np.ndarray  # (n,) bool
    change: np.ndarray  # (X, 4) factors on clearance and absorption, hours it lasts, hours until it begins
    change_by: np.ndarray  # (X, 2) the culprit in the formulary or -1, and among MEDICATION
    change_from: np.ndarray  # (n + 1,)
    start: np.ndarray  # (T,) 1 for the targets that are factors, 0 for the others
    after_dose: np.ndarray  # (26,) [h] when to look after a dose
    most_effects: int  # laws, ions, bindings and supplies of one drug


class Day(NamedTuple):
    """The drift over the day."""

    meals: np.ndarray  # (m,) [h]
    meal_time: float  # [h]
    sleep: np.ndarray  # (3,) [h] from, until, time constant
    asleep_at_zero: float  # how far asleep the heart is at the day's zero
    weight: np.ndarray  # (5, 4): sinus rate, conduction, PR, J-Tpeak, Tpeak-Tend by meal, turn, lean, sleep


class Reserve(NamedTuple):
    """The polynomials of ``repolarisation`` and where they end."""

    low: np.ndarray  # (3,) blocks of IKr, INaL, ICaL
    high: np.ndarray  # (3,)
    coefficients: np.ndarray  # (2, i, j, k)
    iks_coefficients: np.ndarray  # (2, i)


class Pharmacology(NamedTuple):
    """The tables together."""

    drugs: Drugs
    figures: Any  # Figures
    day: Day
    reference: np.ndarray  # (3,) [mmol/L] potassium, magnesium, calcium
    reserve: Reserve
    trend_hours: float  # [h] for which people's own potassium moves


@cache
def medication_names() -> tuple[str, ...]:
    """Every name an interaction or a rule may meet in ``Patient.medication``, the formulary's first."""
    from ecg_gym.pharmacology.rules import named_in_rules

    others = {i.by for i in interactions()} | named_in_rules()
    return (*FORMULARY.names, *sorted(others - set(FORMULARY.names)))


@cache
def pharmacology() -> Pharmacology:
    """The shipped tables, and the user's own drugs."""
    day, reference = _day(), reference_electrolytes()
    drift = np.array([day.coefficients[name] for name in _DRIFTS])
    return Pharmacology(
        _drugs(),
        Figures(*astuple(coefficients())),
        Day(
            day.meals.astype(float),
            float(day.meal_time),
            np.array(day.sleep, float),
            float(_asleep(np.zeros(1), *day.sleep)[0]),
            drift,
        ),
        np.array([reference[name] for name in ELECTROLYTES]),
        _reserve(),
        trend_hours(),
    )


def _reserve() -> Reserve:
    grid = table()
    low, high = np.array(grid.limits).T
    return Reserve(
        np.ascontiguousarray(low),
        np.ascontiguousarray(high),
        grid.coefficients,
        np.ascontiguousarray(grid.iks_coefficients),
    )


def _drugs() -> Drugs:
    rows, column = list(FORMULARY.values()), {name: i for i, name in enumerate(NAMES)}
    kinetics = np.full((len(rows), len(ROUTES), len(fields(Compartments))), np.nan)
    for i, drug in enumerate(rows):
        for route, system in drug.compartments.items():
            kinetics[i, ROUTES.index(route)] = astuple(system)
    laws: list[list[tuple[Any, ...]]] = [[] for _ in rows]
    ions: list[list[tuple[Any, ...]]] = [[] for _ in rows]
    binds: list[list[tuple[Any, ...]]] = [[] for _ in rows]
    changed: list[list[tuple[Any, ...]]] = [[] for _ in rows]
    for i, drug in enumerate(rows):
        for law in drug.laws:
            figures, site = (law.emax, law.ec50, law.hill), SITES.index(law.site)
            if law.target in ELECTROLYTES:
                ions[i].append((*figures, ELECTROLYTES.index(law.target), site))
                continue
            who = column[_SENSITIVITY_OF[law.target]] if law.target in _SENSITIVITY_OF else -1
            kind = FACTOR if law.target in _FACTORS else SHARE if law.target == "av_block" else SUM
            laws[i].append((*figures, TARGETS.index(law.target), site, who, kind))
    for binder in _binders():
        site = SITES.index("metabolite" if binder.metabolite else "effect")
        for channel, block in binder.channels:
            who = column[_CHANNEL_SENSITIVITY[channel]]
            figures = (binder.nanomolar * block.potency, block.ic50_nm, block.hill)
            binds[binder.index].append((*figures, site, CHANNELS.index(channel), who))
    names = medication_names()
    for each in interactions():
        if each.of in FORMULARY.index:
            by = FORMULARY.index.get(each.by, -1)
            reached = 1.0
            for after, exposure in steps_of(each):
                absorption = each.absorption if reached == 1.0 else 1.0
                row = (reached / exposure, absorption, each.lasts_hours, after, by, names.index(each.by))
                changed[FORMULARY.index[each.of]].append(row)
                reached = exposure
    effect, law_kind, law_from = _stacked(laws, 3, 4)
    ion, ion_kind, ion_from = _stacked(ions, 3, 2)
    bind, bind_kind, bind_from = _stacked(binds, 3, 3)
    change, change_by, change_from = _stacked(changed, 4, 2)
    return Drugs(
        kinetics=kinetics,
        renal=np.array([drug.renal for drug in rows], float),
        poor=np.array([(d.poor_metaboliser, d.metabolite.poor_metaboliser if d.metabolite else 1.0) for d in rows]),
        spread=np.array([astuple(drug.spread) for drug in rows], float),
        pathway=np.array([column[drug.pathway] for drug in rows], np.int64),
        law=effect, law_kind=law_kind, law_from=law_from,
        ion=ion, ion_kind=ion_kind, ion_from=ion_from,
        bind=bind, bind_kind=bind_kind, bind_from=bind_from,
        supply=np.array([1 / drug.molar_mass / 1000 if drug.supplies else 0.0 for drug in rows]),
        supply_of=np.array([ELECTROLYTES.index(d.supplies) if d.supplies else 0 for d in rows], np.int64),
        antidote_of=np.array([FORMULARY.index[d.neutralises[0]] if d.neutralises else -1 for d in rows], np.int64),
        antidote_mg=np.array([d.neutralises[1] if d.neutralises else 0.0 for d in rows], float),
        stops=np.array([drug.stops_medication for drug in rows]),
        procedure=np.array([drug.procedure for drug in rows]),
        change=change, change_by=change_by, change_from=change_from,
        start=np.array([float(name in _FACTORS) for name in TARGETS]),
        after_dose=np.asarray(_AFTER_DOSE, float),
        most_effects=max(map(len, laws)) + max(map(len, ions)) + max(map(len, binds)) + 1,
    )  # fmt: skip


def _stacked(rows: Sequence[Sequence[tuple[Any, ...]]], numbers: int, kinds: int) -> tuple[np.ndarray, ...]:
    """Figures ``(N, numbers)`` float, what they are ``(N, kinds)`` int, and where each drug's begin ``(n + 1,)``."""
    flat = np.array([row for some in rows for row in some], float).reshape(-1, numbers + kinds)
    begin = np.concatenate([[0], np.cumsum([len(some) for some in rows])]).astype(np.int64)
    return np.ascontiguousarray(flat[:, :numbers]), flat[:, numbers:].astype(np.int64), begin
