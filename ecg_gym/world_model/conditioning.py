"""What the world model is told: drugs on board, the person, what was measured then and first, the clock.

Pharmacology contributes what it knows *without* knowing this person: the population's ``Modulation`` before and after,
electrolytes, and the chance that a rhythm ends in between. No drug is named: what two drugs do together, or a drug that
came after training, is heard through the same words. How this heart differs from the population is the model's to
learn: from the first strip (``baseline``) and the last, and in the spread of its samples.

Raw features are in their own units, ``NaN`` where nothing is known; ``FeatureScale`` turns them into numbers a network
likes and remembers each by name, so that a table that grew since training is met feature by feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from ecg_gym.columns import FEMALE, NUMBERS, WORDS, Patients
from ecg_gym.core import ECG, INDEPENDENT_LEADS, MODEL_RATE_HZ, Administration, Patient
from ecg_gym.look import log_odds
from ecg_gym.pharmacology import CONDITIONS
from ecg_gym.pharmacology.hazards import HAZARDS
from ecg_gym.pharmacology.modulation import CIRCULATION, Modulation
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.waveform import Intervals, measure
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model import average_people

MEASURED = (
    "hr_bpm", "rr_sd_ms", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "jtpeak_ms", "jtpeakc_ms", "tpeak_tend_ms",
    "r_amplitude_mv", "t_amplitude_mv",
)  # fmt: skip
SIGNS = ("p_present", "regular")  # measured too, but never unknown
OBSERVED = (*MEASURED, *SIGNS)
PERSON = ("age_years", "weight_kg", "height_cm", "potassium", "magnesium", "calcium", "creatinine_clearance")
ELECTROLYTES = ("potassium", "magnesium", "calcium")
MODULATION = tuple(f.name for f in fields(Modulation) if f.name not in CIRCULATION)
EXPOSURE = (*[f"serum.{ion}" for ion in ELECTROLYTES], *[f"modulation.{word}" for word in (*MODULATION, *CIRCULATION)])
_PERSON = [*[NUMBERS.index(name) for name in PERSON], FEMALE]
PEOPLE = (*[f"person.{name}" for name in PERSON], "person.female", *[f"condition.{name}" for name in CONDITIONS])
ENDINGS = tuple(f"ending.{name.removesuffix('_per_hour')}" for name in HAZARDS)
CLOCK = ("clock.step_hours", "clock.since_home_hours", "clock.sine", "clock.cosine")
EPK_STRENGTH = "epk.strength"  # 0 where the prior abstains or is switched off
LEVELS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms")  # that are remembered
SUMS = ("moved", "answer", "beyond", "count")  # sums of e e, e r, r and 1 over earlier looks; see ``memory``
MEMORY = tuple(f"memory.{of}.{name}" for of in SUMS for name in LEVELS)
NOISE = (0.05**2, 8.0**2, 4.0**2, 8.0**2, 8.0**2, 5.0**2)  # about the variance of one look's levels: a weak prior
SHORTEST_HOURS = 1 / 60  # shorter steps are told as so long
DAY_HOURS = 24.0
REENTRY_FROM_BPM = 100.0  # a slower rhythm is no re-entrant tachycardia: Page 2016 doi:10.1161/CIR.0000000000000311

History = tuple[Administration, ...]


@dataclass(frozen=True)
class Look:
    """What there is to know of B strips and their hours, before anybody asks what comes next."""

    observed: np.ndarray  # (B, len(OBSERVED)) measured on the strip, in units; NaN where not measurable
    exposure: np.ndarray  # (B, len(EXPOSURE)) what an average person has on board and what it does
    hours: np.ndarray  # (B,) [h] on each patient's clock
    findings: np.ndarray  # (B, 17) probabilities; NaN where nobody judged them
    pressure: np.ndarray | None = None  # (B,) [mmHg] mean arterial pressure by a cuff; NaN, or None, where unknown

    def __len__(self) -> int:
        return len(self.hours)

    def __getitem__(self, rows: slice | np.ndarray) -> Look:
        cuff = None if self.pressure is None else self.pressure[rows]
        return Look(self.observed[rows], self.exposure[rows], self.hours[rows], self.findings[rows], cuff)

    @property
    def cuff(self) -> np.ndarray:
        """The pressure ``(B,)`` [mmHg]; NaN where unknown."""
        return np.full(len(self), np.nan) if self.pressure is None else np.asarray(self.pressure, float)


def unread(n: int) -> np.ndarray:
    """The findings ``(n, 17)`` of looks that nobody judged: NaN."""
    return np.full((n, len(FINDINGS)), np.nan, np.float32)


def feature_names() -> tuple[str, ...]:
    """The names of the columns of :func:`raw_features`, with today's table of conditions."""
    return (
        *[f"{when}.{name}" for when in ("before", "after", "home") for name in EXPOSURE],
        *[f"measured.{name}" for name in MEASURED],
        *[f"known.{name}" for name in MEASURED],
        *[f"sign.{name}" for name in SIGNS],
        *[f"home.{name}" for name in OBSERVED],
        *PEOPLE,
        *[f"known.{name}" for name in PEOPLE[: len(PERSON) + 1]],
        *ENDINGS,
        *CLOCK,
        *[f"{when}.finding.{name}" for when in ("before", "home") for name in FINDINGS],
        "before.map_mmhg",
        "home.map_mmhg",
        "sign.map_known",
        *MEMORY,
    )


def raw_features(
    person: np.ndarray, baseline: Look, before: Look, memory: np.ndarray, after_exposure: np.ndarray,
    after_hours: np.ndarray, ending: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """The condition ``(B, F)`` float32 in its own units, columns as in :func:`feature_names`; NaN is unknown.

    ``person (B, len(PEOPLE))`` is from :func:`people`, ``baseline`` the first look at each patient, ``before`` the
    last, ``memory (B, len(MEMORY))`` the sums of the looks between (:mod:`ecg_gym.world_model.memory`),
    ``after_exposure`` what will be on board at ``after_hours (B,)`` [h], and ``ending (B, 4)`` the integrated hazards
    that a rhythm ends between ``before`` and then (:func:`endings`).
    """
    intervals = before.observed[:, : len(MEASURED)]
    inputs = person[:, : len(PERSON) + 1]
    angle = 2 * np.pi * after_hours / DAY_HOURS
    columns = [
        before.exposure,
        after_exposure,
        baseline.exposure,
        intervals,
        np.isfinite(intervals),
        before.observed[:, len(MEASURED) :],
        baseline.observed,
        person,
        np.isfinite(inputs),
        ending,
        np.stack([after_hours - before.hours, after_hours - baseline.hours, np.sin(angle), np.cos(angle)], axis=1),
        log_odds(before.findings),
        log_odds(baseline.findings),
        np.stack([before.cuff, baseline.cuff, np.isfinite(before.cuff)], axis=1),
        memory,
    ]
    return np.concatenate([np.asarray(c, dtype=np.float32) for c in columns], axis=1)


def render_names(has_targets: bool = True) -> tuple[str, ...]:
    """The names of the columns of :func:`render_features`."""
    return (
        *[f"{when}.{name}" for when in ("before", "after") for name in EXPOSURE],
        *[f"measured.{name}" for name in OBSERVED],
        *([f"asked.{name}" for name in OBSERVED] if has_targets else []),
        *([f"known.asked.{name}" for name in MEASURED] if has_targets else []),
        *PEOPLE,
        *[f"missing.{lead}" for lead in INDEPENDENT_LEADS],
        "clock.step_hours", "clock.sine", "clock.cosine",
        EPK_STRENGTH,
    )  # fmt: skip


def render_features(
    person: np.ndarray, reference: Look, after_exposure: np.ndarray, after_hours: np.ndarray, missing: np.ndarray,
    epk_strength: np.ndarray, target_intervals: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """What the denoiser is told ``(B, F)`` float32 in its own units, columns as in :func:`render_names`.

    ``reference`` is the strip it redraws, ``asked (B, len(OBSERVED))`` the intervals the new strip shall have (``None``
    for a model that has no prognosis), ``missing (B, 8)`` true where an independent lead of the reference was not
    recorded, ``epk_strength (B,)`` the anchor's scale, 0 where it abstains.
    """
    angle = 2 * np.pi * after_hours / DAY_HOURS
    columns = [reference.exposure, after_exposure, reference.observed]
    if target_intervals is not None:
        columns += [target_intervals, np.isfinite(target_intervals[:, : len(MEASURED)])]
    columns += [
        person,
        missing,
        np.stack([after_hours - reference.hours, np.sin(angle), np.cos(angle), epk_strength], axis=1),
    ]
    return np.concatenate([np.asarray(c, dtype=np.float32) for c in columns], axis=1)


def exposures(histories: Sequence[History], patients: Sequence[Patient], hours: np.ndarray) -> np.ndarray:
    """Electrolytes [mmol/L] and modulation of average people ``(B, len(EXPOSURE))`` float32 with these histories."""
    return average_people.follow(histories, patients, hours, hours)[0]


def modulations(histories: Sequence[History], patients: Sequence[Patient], hours: np.ndarray) -> list[Modulation]:
    """What pharmacology says to average hearts with these histories; for the EPK prior of the paper."""
    return modulations_of(exposures(histories, patients, hours))


def modulations_of(exposure: np.ndarray) -> list[Modulation]:
    """The modulations that stand in exposures ``(B, len(EXPOSURE))``."""
    return [Modulation(*map(float, row)) for row in exposure[:, len(ELECTROLYTES) :]]


def endings(
    histories: Sequence[History], patients: Sequence[Patient], start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Integrated hazards ``(B, 4)`` that re-entry, AF, VT, torsade end between two hours, in average people."""
    return average_people.follow(histories, patients, start, end)[1]


def can_end(observed: np.ndarray) -> np.ndarray:
    """Which of the four endings of :func:`endings` the rhythm of a strip leaves possible, ``(B, 4)`` of 0 and 1.

    ``observed (B, len(OBSERVED))``. In a regular rhythm with P waves nothing is there to end, so a drug that has left
    the body changes nothing; re-entry is regular and fast; AF has no P waves. What was not measured stays possible.
    """
    hr, p_present, regular = (observed[:, OBSERVED.index(name)] for name in ("hr_bpm", "p_present", "regular"))
    p_there, keeps_time, slow = p_present > 0.5, regular > 0.5, hr < REENTRY_FROM_BPM
    sinus = p_there & keeps_time
    cannot = {
        "reentry_termination_per_hour": sinus | ~keeps_time | p_there | slow,
        "af_conversion_per_hour": sinus | p_there,
        "vt_termination_per_hour": sinus,
        "torsade_termination_per_hour": sinus,
    }
    unknown = np.isnan(hr)
    return np.stack([~cannot[name] | unknown for name in HAZARDS], axis=1).astype(np.float32)


def people(patients: Sequence[Patient]) -> np.ndarray:
    """Numbers, female and conditions ``(B, len(PEOPLE))`` float32; NaN is unknown."""
    rows = Patients.of(patients)
    kinds, kind = np.unique(rows.group, return_inverse=True)
    has = np.array([[name in WORDS.rows[k][0] for name in CONDITIONS] for k in kinds], np.float32)
    return np.concatenate([rows.numbers[:, _PERSON].astype(np.float32), has.reshape(-1, len(CONDITIONS))[kind]], axis=1)


def measure_strips(ecg: np.ndarray) -> Intervals:
    """The intervals of strips ``(B, 12, 1024)`` [mV] on the model grid."""
    return measure(ECG(ecg, MODEL_RATE_HZ))


def observe_strips(ecg: np.ndarray) -> np.ndarray:
    """What is measured on strips ``(B, 12, 1024)`` [mV] of the model grid: ``(B, len(OBSERVED))``, NaN where not."""
    return measure_strips(ecg).as_array(OBSERVED)


def population_forecast(
    observed: np.ndarray, patients: Sequence[Patient], histories: Sequence[History], then: Sequence[History],
    start: np.ndarray, end: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The intervals that average hearts would have: measured at ``start`` [h] with ``histories``, moved by what
    the doses of ``then`` and the clock have changed by ``end`` [h]. Each ``(B,)``; pharmacology alone, nothing learned.

    ``observed (B, len(OBSERVED))`` is from :func:`observe_strips`; NaN where it could not be measured.
    """
    was, now = modulations(histories, patients, start), modulations(then, patients, end)
    words = [{word: np.array([getattr(m, word) for m in exposure]) for word in MODULATION} for exposure in (was, now)]
    column = {name: observed[:, i].astype(float) for i, name in enumerate(OBSERVED)}
    return expected_intervals(column, column["p_present"], *words)


def complete(raw: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Raw features and, as further columns, the intervals that follow from them for an average heart.

    Measured interval, plus or times what the modulation says has changed since, with QT on Fridericia's law; from the
    strip before (``expected``) and from the first (``expected_from_home``); the rate over an accessory pathway, which
    has a factor of its own; and the chance that a rhythm ends, where the ending's integrated hazard says little: of
    adenosine it is small beside verapamil's, and yet it ends most. The network could find this out; told, it spends
    its training on how people differ from it. NaN where not known.
    """
    column = dict(zip(names, raw.T.astype(float)))
    signs = {"measured": column["sign.p_present"], "home": column["home.p_present"]}
    inputs: dict[str, np.ndarray] = {}
    for start, exposure, label in (("measured", "before", "expected"), ("home", "home", "expected_from_home")):
        then = {name: column[f"{start}.{name}"] for name in MEASURED}
        was = {word: column[f"{exposure}.modulation.{word}"] for word in MODULATION}
        now = {word: column[f"after.modulation.{word}"] for word in MODULATION}
        inputs |= {f"{label}.{name}": value for name, value in expected_intervals(then, signs[start], was, now).items()}
        inputs[f"{label}_on_pathway.hr_bpm"] = then["hr_bpm"] * now["pathway_rate"] / was["pathway_rate"]
    inputs |= {f"chance.{name}": -np.expm1(-column[name]) for name in ENDINGS}
    inputs["clock.log_step_hours"] = np.log(np.maximum(column["clock.step_hours"], SHORTEST_HOURS))
    for start, exposure in (("before", "before"), ("home", "home")):
        inputs[f"expected_from_{start}.map_mmhg"] = column[f"{start}.map_mmhg"] * np.prod(
            [
                column[f"after.modulation.{w}"] / column[f"{exposure}.modulation.{w}"]
                for w in ("contractility", "resistance")
            ],
            axis=0,
        )
    inputs |= _remembered(column, inputs)
    columns = [i for i, name in enumerate(names) if name not in MEMORY]  # the sums say it better together
    whole = np.concatenate([raw[:, columns], np.stack(list(inputs.values()), axis=1)], axis=1)
    return whole, (*(names[i] for i in columns), *inputs)


def _remembered(column: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What earlier looks and the last say of each level: how many there were, how far the person stood from what was
    expected of the first look on average and at the last, and how strongly the person answers (ridge regression).
    """
    was, now = ({w: column[f"{when}.modulation.{w}"] for w in MODULATION} for when in ("home", "before"))
    baseline = {name: column[f"home.{name}"] for name in MEASURED}
    last = expected_intervals(baseline, column["home.p_present"], was, now)
    result: dict[str, np.ndarray] = {}
    for name, noise in zip(LEVELS, NOISE):
        level = np.log if name == "hr_bpm" else np.asarray
        with np.errstate(invalid="ignore", divide="ignore"):
            then, expected, observed = (
                level(row[name]) for row in (baseline, last, {name: column[f"measured.{name}"]})
            )
            coming = level(inputs[f"expected_from_home.{name}"])
        e, r = expected - then, observed - expected
        finite = np.isfinite(e) & np.isfinite(r)
        e, r = np.where(finite, e, 0.0), np.where(finite, r, 0.0)
        spread, answer, beyond, count = (column[f"memory.{of}.{name}"] for of in SUMS)
        spread, answer, beyond, count = spread + e * e, answer + e * r, beyond + r, count + finite
        slope, mean = answer / (spread + 4 * noise), beyond / np.maximum(count, 1)
        further = np.where(finite, coming - expected, 0.0)
        result |= {
            f"history.slope.{name}": slope,
            f"history.answer.{name}": slope * np.nan_to_num(further),
            f"history.mean.{name}": mean,
            f"history.back.{name}": np.where(finite, mean - r, 0.0),
            f"history.moved.{name}": np.log1p(spread / noise),
            f"history.count.{name}": count,
        }
    return result


def expected_intervals(
    then: dict[str, np.ndarray], p_present: np.ndarray, was: dict[str, np.ndarray], now: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The intervals of hearts measured ``then``, once one modulation has given way to another."""
    faster = np.where(p_present > 0, now["sinus_rate"] / was["sinus_rate"], now["av_rate"] / was["av_rate"])
    wider_ms = then["qrs_ms"] * (was["conduction"] / now["conduction"] - 1)
    later_ms, broader_ms = now["jtpeak_ms"] - was["jtpeak_ms"], now["tpeak_tend_ms"] - was["tpeak_tend_ms"]
    longer_ms = later_ms + broader_ms + wider_ms
    return {
        "hr_bpm": then["hr_bpm"] * faster,
        "pr_ms": then["pr_ms"] + now["pr_ms"] - was["pr_ms"],
        "qrs_ms": then["qrs_ms"] + wider_ms,
        "qt_ms": (then["qt_ms"] + longer_ms) * faster ** (-1 / 3),
        "qtcf_ms": then["qtcf_ms"] + longer_ms,
        "jtpeak_ms": (then["jtpeak_ms"] + later_ms) * faster**-JTPEAK_EXPONENT,
        "jtpeakc_ms": then["jtpeakc_ms"] + later_ms,
        "tpeak_tend_ms": then["tpeak_tend_ms"] + broader_ms,
    }


@dataclass(frozen=True)
class FeatureScale:
    """From raw features to the network's: ``asinh((x - offset) / scale)``, 0 where unknown.

    asinh is linear near rest and logarithmic far away: concentrations span decades, and most drugs are absent.
    ``offset`` is the median of the training data and ``scale`` the root mean square of what differs from it, so a drug
    that one patient in thirty takes is as loud as the heart rate.
    """

    names: tuple[str, ...]
    offset: np.ndarray  # (F,)
    scale: np.ndarray  # (F,)

    @classmethod
    def fit(cls, names: Sequence[str], raw: np.ndarray) -> FeatureScale:
        """Offset and scale of raw features ``(N, F)``; a column that never varies gets a scale of 1."""
        finite = np.isfinite(raw)
        offset = np.array([np.median(column[ok]) if ok.any() else 0.0 for column, ok in zip(raw.T, finite.T)])
        difference = np.where(finite, raw - offset, 0.0).astype(float)
        changes = (difference != 0).sum(axis=0)
        size = np.sqrt((difference**2).sum(axis=0) / np.maximum(changes, 1))
        return cls(tuple(names), offset, np.where(size > 0, size, 1.0))

    def __call__(self, raw: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """The network's features ``(B, F)`` float32 of raw ones ``(B, F')`` whose columns are ``names``.

        Columns are matched by name; a feature that has gone since training stands at rest.
        """
        place = _places(self.names, tuple(names))
        matched = np.where(place < 0, self.offset, raw[:, place])
        return np.nan_to_num(np.arcsinh((matched - self.offset) / self.scale)).astype(np.float32)


@lru_cache(maxsize=64)
def _places(names: tuple[str, ...], among: tuple[str, ...]) -> np.ndarray:
    """Where each name stands ``among`` others; -1 where it does not."""
    column = {name: i for i, name in enumerate(among)}
    return np.array([column.get(name, -1) for name in names], int)
