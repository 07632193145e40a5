"""What becomes of hearts in a span of time: whether a rhythm ends, and whether a lethal one begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ecg_gym.pharmacology import Course
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.truth import Truth, hazards_of, ischaemia

_ENDED_BY = {  # leader of a rhythm -> the hazard that ends it
    "reentry": "reentry_termination_per_hour",
    "ventricular": "vt_termination_per_hour",
    "torsade": "torsade_termination_per_hour",
    "atrial": "af_conversion_per_hour",
    "pathway": "af_conversion_per_hour",
}
_PACED_BY = {"sinus": "sinus_rate", "torsade": "sinus_rate", "atrial": "av_rate", "pathway": "pathway_rate"}


def fates(
    hearts: Sequence[Heart],
    then: Sequence[Modulation],
    truths: Sequence[Truth],
    spans: Sequence[Course],
    generators: Sequence[np.random.Generator],
) -> list[tuple[Heart, bool]]:
    """Each heart after its span, in its last rhythm, and whether it lives.

    ``truths`` are of the strips that the spans begin with, taken under ``then``. Every generator is drawn from three
    times, whatever happens.
    """
    if not len(hearts):  # nobody is alive
        return []
    ends = [_changed_rhythm(*row) for row in zip(hearts, spans, generators)]
    rates = lethal_rates(hearts, [heart for heart, _ in ends], [at for _, at in ends], then, truths, spans)
    expected = {name: _integrals(rate, spans) for name, rate in rates.items()}
    fatal = [_lethal({name: float(of[i]) for name, of in expected.items()}, rng) for i, rng in enumerate(generators)]
    return [(replace(heart, rhythm=rhythm) if rhythm else heart, not rhythm) for (heart, _), rhythm in zip(ends, fatal)]


def lethal_rates(
    before: Sequence[Heart],
    after: Sequence[Heart],
    at: Sequence[float],
    then: Sequence[Modulation],
    truths: Sequence[Truth],
    spans: Sequence[Course],
) -> dict[str, np.ndarray]:
    """Hazards [1/h] of each lethal rhythm at all looks of all spans, one after another.

    Until ``at`` [h], when its rhythm ended, a heart is in danger by the intervals of its strip, moved by what has
    changed since; behind it by its own at rest.
    """
    row = np.repeat(np.arange(len(spans)), [len(span.hours) for span in spans])
    now = _together(spans)
    early = np.concatenate([span.hours for span in spans]) < np.array(at)[row]

    def value(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
        """A number of each heart at each look, as it was and as it is once its rhythm has ended."""
        return np.where(early, np.array(first, dtype=float)[row], np.array(second, dtype=float)[row])

    def was(word: str) -> np.ndarray:
        return value([getattr(change, word) for change in then], [getattr(REST, word)] * len(then))

    wider_ms = value([heart.qrs_ms for heart in before], [heart.qrs_ms for heart in after])
    wider_ms = wider_ms * (1 / now.conduction - 1 / was("conduction"))
    longer_ms = now.jtpeak_ms - was("jtpeak_ms") + now.tpeak_tend_ms - was("tpeak_tend_ms") + wider_ms
    faster = np.ones(len(row))
    paced = [[_PACED_BY.get(_leader(heart), "") for heart in hearts] for hearts in (before, after)]
    for word in dict.fromkeys(_PACED_BY.values()):
        led = value(*([float(by == word) for by in side] for side in paced)) > 0
        faster = np.where(led, getattr(now, word) / was(word), faster)
    return hazards_of(
        now,
        value([ischaemia(heart) for heart in before], [ischaemia(heart) for heart in after]),
        value([truth.intervals["qtcf_ms"] for truth in truths], [heart.qtcf_ms for heart in after]) + longer_ms,
        value([truth.intervals["hr_bpm"] for truth in truths], [heart.rate_bpm for heart in after]) * faster,
        np.concatenate([span.potassium for span in spans]),
    )


def _leader(heart: Heart) -> str:
    return rhythms()[heart.rhythm]["leader"]


def _together(spans: Sequence[Course]) -> Modulation:
    """The modulations of all spans, one after another, ``(N,)`` in every field."""
    return Modulation(*map(np.concatenate, zip(*(vars(span.change).values() for span in spans))))  # type: ignore[arg-type]


def _integrals(rate: np.ndarray, spans: Sequence[Course]) -> np.ndarray:
    """The integral ``(B,)`` of ``rate (N,)`` [1/h] over each span; trapezoids."""
    ends = np.cumsum([len(span.hours) for span in spans])
    area = np.diff(np.concatenate([span.hours for span in spans])) * (rate[1:] + rate[:-1]) / 2
    area[ends[:-1] - 1] = 0.0  # from one span to the next
    return np.add.reduceat(area, np.concatenate([[0], ends[:-1]]))


def _changed_rhythm(heart: Heart, span: Course, rng: np.random.Generator) -> tuple[Heart, float]:
    """The heart after the span, and the hour at which its rhythm ended (inf if it did not)."""
    limit = -np.log1p(-rng.random())  # drawn whatever the rhythm
    hazard = _ENDED_BY.get(_leader(heart))
    passed = span.accumulated(hazard) if hazard else np.zeros(1)
    if passed[-1] <= limit:
        return heart, np.inf
    return heart.converted(), float(np.interp(limit, passed, span.hours))


def _lethal(expected: Mapping[str, float], rng: np.random.Generator) -> str:
    """ "", "vf" or "asystole": whether hazards that add up to ``expected`` struck; two draws, always."""
    total = sum(expected.values())
    struck, which = rng.random() < -np.expm1(-total), rng.random() * total
    return "" if not struck else "asystole" if which < expected["asystole"] else "vf"
