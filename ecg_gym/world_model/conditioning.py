"""What the denoiser is told: drugs on board, the person, the measured pre-dose intervals, the clock; as one vector.

Pharmacology contributes what it knows *without* knowing this person: population exposure and the population's
``Modulation``, before and after the step. How this heart differs from the population is the model's to learn, and the
spread of its samples.

Raw features are in their own units, ``NaN`` where nothing is known; ``FeatureScale`` turns them into numbers a network
likes and remembers each by name, so that a formulary that grew since training is met feature by feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from ecg_gym.core import ECG, INDEPENDENT_LEADS, MODEL_RATE_HZ, Administration, Patient
from ecg_gym.pharmacology import CONDITIONS, FORMULARY, exposure, modulate
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.waveform import Intervals, measure
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT

MEASURED = (
    "hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "jtpeak_ms", "tpeak_tend_ms", "r_amplitude_mv", "t_amplitude_mv",
)  # fmt: skip
SIGNS = ("p_present", "regular")  # measured too, but never unknown
PERSON = ("age_years", "weight_kg", "height_cm", "potassium", "magnesium", "calcium", "creatinine_clearance")
ELECTROLYTES = ("potassium", "magnesium", "calcium")
MODULATION = tuple(f.name for f in fields(Modulation))
EPK_STRENGTH = "epk.strength"  # last: 0 where the prior abstains or is switched off
DAY_HOURS = 24.0

History = tuple[Administration, ...]


@dataclass(frozen=True)
class Step:
    """A batch of steps to be predicted: who, what was taken by then, and from when to when on each patient's clock."""

    patients: Sequence[Patient]
    taken_before: Sequence[History]  # what the pre-dose strip already shows
    taken_after: Sequence[History]  # the same and what is given now
    hours_before: np.ndarray  # (B,) [h]
    hours_after: np.ndarray  # (B,) [h]

    def __len__(self) -> int:
        return len(self.hours_before)


def feature_names() -> tuple[str, ...]:
    """The names of the columns of :func:`raw_features`, with today's formulary and conditions."""
    board = [
        *[f"plasma.{drug}" for drug in FORMULARY.names],
        *[f"effect.{drug}" for drug in FORMULARY.names],
        *[f"serum.{ion}" for ion in ELECTROLYTES],
        *[f"modulation.{word}" for word in MODULATION],
    ]
    return (
        *[f"{when}.{name}" for when in ("before", "after") for name in board],
        *[f"measured.{name}" for name in MEASURED],
        *[f"known.{name}" for name in MEASURED],
        *[f"sign.{name}" for name in SIGNS],
        *[f"person.{name}" for name in PERSON],
        *[f"known.person.{name}" for name in PERSON],
        "person.female", "known.person.sex",
        *[f"condition.{name}" for name in CONDITIONS],
        *[f"missing.{lead}" for lead in INDEPENDENT_LEADS],
        "clock.step_hours", "clock.elapsed_hours", "clock.sine", "clock.cosine",
        EPK_STRENGTH,
    )  # fmt: skip


def raw_features(
    step: Step, intervals: Intervals, missing: np.ndarray | None = None, epk_strength: np.ndarray | float = 1.0
) -> np.ndarray:
    """The condition ``(B, F)`` float32 in its own units, columns as in :func:`feature_names`; NaN is unknown.

    ``intervals`` are those of the pre-dose strips on the model grid; ``missing (B, 8)`` is true where an independent
    lead was not recorded; ``epk_strength`` is the anchor's scale, 0 where it abstains.
    """
    b = len(step)
    measured = intervals.as_array(MEASURED)
    person, person_known, female, sex_known = _people(step.patients)
    conditions = np.array([[name in p.conditions for name in CONDITIONS] for p in step.patients], dtype=float)
    angle = 2 * np.pi * step.hours_after / DAY_HOURS
    columns = [
        np.stack([_board(*row) for row in zip(step.taken_before, step.patients, step.hours_before)]),
        np.stack([_board(*row) for row in zip(step.taken_after, step.patients, step.hours_after)]),
        measured,
        np.isfinite(measured),
        intervals.as_array(SIGNS),
        person,
        person_known,
        female,
        sex_known,
        conditions,
        np.zeros((b, len(INDEPENDENT_LEADS))) if missing is None else missing,
        np.stack([step.hours_after - step.hours_before, step.hours_after, np.sin(angle), np.cos(angle)], axis=1),
        np.broadcast_to(epk_strength, (b,))[:, None],
    ]
    return np.concatenate([np.asarray(c, dtype=np.float32) for c in columns], axis=1)


def population_modulations(step: Step) -> tuple[list[Modulation], list[Modulation]]:
    """What pharmacology says to an average heart before and after each step; for the EPK prior."""
    before = [_on_board(*row)[1] for row in zip(step.taken_before, step.patients, step.hours_before)]
    after = [_on_board(*row)[1] for row in zip(step.taken_after, step.patients, step.hours_after)]
    return before, after


def measure_strips(ecg: np.ndarray) -> Intervals:
    """The intervals of strips ``(B, 12, 1024)`` [mV] on the model grid."""
    return measure(ECG(ecg, MODEL_RATE_HZ))


def complete(raw: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Raw features and, as further columns, the intervals that follow from them for an average heart.

    Measured interval, plus or times what the modulation says has changed since, with QT on Fridericia's law. The
    network could find this out; told, it spends its training on how people differ from it. NaN where not known.
    """
    column = dict(zip(names, raw.T.astype(float)))

    def change(word: str) -> np.ndarray:
        return column[f"after.modulation.{word}"] - column[f"before.modulation.{word}"]

    def factor(word: str) -> np.ndarray:
        return column[f"after.modulation.{word}"] / column[f"before.modulation.{word}"]

    faster = np.where(column["sign.p_present"] > 0, factor("sinus_rate"), factor("av_rate"))
    wider_ms = column["measured.qrs_ms"] * (1 / factor("conduction") - 1)
    longer_ms = change("jtpeak_ms") + change("tpeak_tend_ms") + wider_ms
    expected = {
        "expected.hr_bpm": column["measured.hr_bpm"] * faster,
        "expected.pr_ms": column["measured.pr_ms"] + change("pr_ms"),
        "expected.qrs_ms": column["measured.qrs_ms"] + wider_ms,
        "expected.qt_ms": (column["measured.qt_ms"] + longer_ms) * faster ** (-1 / 3),
        "expected.qtcf_ms": column["measured.qtcf_ms"] + longer_ms,
        "expected.jtpeak_ms": (column["measured.jtpeak_ms"] + change("jtpeak_ms")) * faster**-JTPEAK_EXPONENT,
        "expected.tpeak_tend_ms": column["measured.tpeak_tend_ms"] + change("tpeak_tend_ms"),
    }
    return np.concatenate([raw, np.stack(list(expected.values()), axis=1)], axis=1), (*names, *expected)


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
        """Offset and scale of raw features ``(N, F)``, completed; a column that never varies gets a scale of 1."""
        raw, names = complete(raw, names)
        finite = np.isfinite(raw)
        offset = np.array([np.median(column[ok]) if ok.any() else 0.0 for column, ok in zip(raw.T, finite.T)])
        difference = np.where(finite, raw - offset, 0.0).astype(float)
        moved = (difference != 0).sum(axis=0)
        size = np.sqrt((difference**2).sum(axis=0) / np.maximum(moved, 1))
        return cls(tuple(names), offset, np.where(size > 0, size, 1.0))

    def __call__(self, raw: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """The network's features ``(B, F)`` float32 of raw ones ``(B, F')`` whose columns are ``names``.

        Columns are matched by name. A feature that has gone since training stands at rest. A drug that has come since
        training may be in the formulary, but not on board: ValueError, because the weights never met it.
        """
        raw, names = complete(raw, names)
        column = {name: i for i, name in enumerate(names)}
        for name in [n for n in names if n not in self._known and _is_drug(n)]:
            if np.any(raw[:, column[name]] > 0):
                raise ValueError(
                    f"{name.rsplit('.', 1)[1]} is on board; expected a drug these weights were trained with: "
                    f"{', '.join(self.drugs)}; retrain with `ecg-gym train world-model`, or use the virtual patient"
                )
        matched = np.tile(self.offset, (len(raw), 1))
        for i, name in enumerate(self.names):
            if name in column:
                matched[:, i] = raw[:, column[name]]
        return np.nan_to_num(np.arcsinh((matched - self.offset) / self.scale)).astype(np.float32)

    @property
    def drugs(self) -> tuple[str, ...]:
        """The drugs these features can tell apart."""
        return tuple(name.rsplit(".", 1)[1] for name in self.names if name.startswith("after.plasma."))

    @property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)


def _is_drug(name: str) -> bool:
    return ".plasma." in name or ".effect." in name


def _board(given: History, patient: Patient, hours: float) -> np.ndarray:
    return _on_board(given, patient, float(hours))[0]


@lru_cache(maxsize=4096)
def _on_board(given: History, patient: Patient, hours: float) -> tuple[np.ndarray, Modulation]:
    """Exposure, electrolytes and modulation of an average person, as a vector, and the modulation itself.

    Kept, because K samples of a candidate share one history.
    """
    now = exposure(given, patient, hours)
    modulation = modulate(now, patient, clock_hours=hours)
    ions = [getattr(now, ion) for ion in ELECTROLYTES]
    words = [getattr(modulation, word) for word in MODULATION]
    return np.concatenate([now.plasma, now.effect, ions, words]), modulation


def _people(patients: Sequence[Patient]) -> tuple[np.ndarray, ...]:
    """Numbers ``(B, 7)`` and their known-flags, then female ``(B, 1)`` and its flag."""
    told = np.array([[getattr(p, name) for name in PERSON] for p in patients], dtype=float)  # None becomes NaN
    female = np.array([[np.nan if p.sex is None else p.sex == "F"] for p in patients], dtype=float)
    return told, np.isfinite(told), female, np.isfinite(female)
