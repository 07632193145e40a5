"""What becomes of a heart in a span of time, in plain words: which rhythms it has, and whether a lethal one begins.

The kernel does the same with arrays; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecg_gym.pharmacology import Course
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.transitions import transition_yaml
from ecg_gym.virtual_patient.truth import Truth, escape_fails, hazard_values, hazards_of, ischaemia, pressure_of

_ENDED_BY = {  # leader of a rhythm -> the hazard that ends it
    "reentry": "reentry_termination_per_hour",
    "ventricular": "vt_termination_per_hour",
    "torsade": "torsade_termination_per_hour",
    "atrial": "af_conversion_per_hour",
    "pathway": "af_conversion_per_hour",
}
_PACED_BY = {"sinus": "sinus_rate", "torsade": "sinus_rate", "atrial": "av_rate", "pathway": "pathway_rate"}


@dataclass(frozen=True)
class Life:
    """A heart through a span."""

    heart: Heart  # in its last rhythm
    changes: tuple[tuple[float, str], ...]  # when its rhythm changed [h], and to which
    expected: Mapping[str, float]  # integrated hazards of each lethal rhythm


def live(
    heart: Heart, then: Modulation, truth: Truth, span: Course, chances: Sequence[float], aims: Sequence[float],
    score: float = 0.0,
) -> Life:  # fmt: skip
    """A heart through its span, which begins with a strip of this ``truth``, taken under ``then``.

    Its rhythm changes at most once for each of ``chances``: when the hazards of leaving it have added up to
    -ln(1 - chance). Which of them it was, ``aims`` say, in [0, 1) as well. ``score`` is the person's, of the rate that
    a new arrhythmia has.
    """
    strips: Truth | None = truth  # what its strip shows holds as long as its rhythm does
    changes: list[tuple[float, str]] = []
    passed, rates, before = 0.0, [], np.zeros(4)

    def now(look: int) -> tuple[dict[str, float], np.ndarray]:
        at = dangers(heart, span, then if strips else None, strips, look)
        return at, departures(heart, span.modulations[look], at["torsade"], float(span.hours[look]))

    for look, hour in enumerate(span.hours):
        at, leave = now(look)
        begin = span.hours[look - 1] if look else hour
        while look and len(changes) < len(chances):
            parts = (before + leave) / 2 * (hour - begin)
            limit = -np.log1p(-chances[len(changes)])
            if not passed + parts.sum() > limit:
                passed += parts.sum()
                break
            begin = begin + (hour - begin) * (limit - passed) / parts.sum()
            which = int(np.searchsorted(np.cumsum(parts)[:3], aims[len(changes)] * parts.sum(), "right"))
            heart = departed(heart, which, float(begin), score)
            changes.append((float(begin), heart.rhythm))
            strips, passed = None, 0.0
            at, leave = now(look)
            before = leave
        rates.append(at)
        before = leave
    expected = {name: float(np.trapezoid([rate[name] for rate in rates], span.hours)) for name in rates[0]}
    return Life(heart, tuple(changes), expected)


def dangers(heart: Heart, span: Course, then: Modulation | None, truth: Truth | None, look: int) -> dict[str, float]:
    """The lethal hazards [1/h] of a heart at one look; ``truth``: of a strip in the rhythm that it still has."""
    one = _one_look(span, look)
    if truth is not None and then is not None:
        rates = lethal_rates([heart], [heart], [np.inf], [then], [truth], [one])
    else:
        rates = lethal_rates([heart], [heart], [-np.inf], [REST], [_NO_STRIP], [one])
    return {name: float(rate[0]) for name, rate in rates.items()}


def _one_look(span: Course, look: int) -> Course:
    """A span of one look."""
    part = slice(look, look + 1)
    return Course(
        span.hours[part],
        Modulation(*(np.asarray(value)[part] for value in vars(span.change).values())),  # type: ignore[arg-type]
        type(span.exposure)(*(np.asarray(value)[part] for value in vars(span.exposure).values())),  # type: ignore[arg-type]
    )


def departures(heart: Heart, m: Modulation, torsade: float, hour: float) -> np.ndarray:
    """Hazards ``(4,)`` [1/h] that the rhythm ends, that torsade begins, that an arrhythmia returns, that another comes.

    ``torsade`` is its lethal hazard [1/h]; equations in ``transitions.yaml``.
    """
    h, row, leader = hazard_values(), _row(heart.rhythm), _leader(heart)
    since = hour - heart.since_hours
    ends = row.get("ends", {}).get("per_hour", 0.0)
    ends += getattr(m, _ENDED_BY[leader]) if leader in _ENDED_BY else 0.0
    if heart.rhythm == "torsade" and m.pacing_bpm > 0:
        ends += h["torsade_paced"]
    ends *= (max(since, 24.0) / 24.0) ** row.get("ends", {}).get("recent", 0.0)
    begins = returns = 0.0
    if leader == "sinus":
        begins = torsade * h["torsade_bouts"] * (h["torsade_again"] if heart.returns == "torsade" else 1.0)
        if heart.returns not in ("", "torsade"):
            back = _row(heart.returns)["returns"]
            returns = (back["early"] * np.exp(-since / back["settles"]) + back["late"]) * m.ectopy ** back["ectopy"]
            by = _ENDED_BY.get(rhythms()[heart.returns]["leader"])
            returns /= 1 + (getattr(m, by) if by else 0.0) / back["held"]
    comes = row.get("becomes", {"per_hour": 0.0, "ectopy": 0})
    return np.array([ends, begins, returns, comes["per_hour"] * m.ectopy ** comes["ectopy"]])


def departed(heart: Heart, which: int, hour: float, score: float) -> Heart:
    """The heart in its next rhythm; ``which`` of the hazards of ``departures`` it was."""
    if which == 0:
        again = "returns" in _row(heart.rhythm) or heart.rhythm == "torsade"
        left = replace(heart, returns=heart.rhythm, arrhythmia_bpm=heart.rate_bpm) if again else heart
        return replace(left, rhythm=heart.base, rate_bpm=heart.sinus_rate_bpm, since_hours=hour)
    if _leader(heart) == "sinus":
        heart = replace(heart, base=heart.rhythm, sinus_rate_bpm=heart.rate_bpm)
    if which == 2:
        return replace(heart, rhythm=heart.returns, rate_bpm=heart.arrhythmia_bpm, since_hours=hour)
    to = "torsade" if which == 1 else _row(heart.rhythm)["becomes"]["to"]
    mean, sd = rhythms()[to]["rate_bpm"]
    rate = mean + sd * score
    return replace(heart, rhythm=to, rate_bpm=rate, arrhythmia_bpm=rate, since_hours=hour)


def _row(rhythm: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] = transition_yaml()["rhythms"].get(rhythm, {})
    return row


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
    hr = value([truth.intervals["hr_bpm"] for truth in truths], [heart.rate_bpm for heart in after]) * faster
    hearts = [(before if own else after)[int(b)] for own, b in zip(early, row)]
    each = [Modulation(*(float(v[i]) for v in vars(now).values())) for i in range(len(row))]
    mmhg = np.array([pressure_of(*one) for one in zip(hearts, each, hr)])
    fails = np.array([escape_fails(*one) for one in zip(hearts, each, hr)])
    return hazards_of(
        now,
        value([ischaemia(heart) for heart in before], [ischaemia(heart) for heart in after]),
        value([truth.intervals["qtcf_ms"] for truth in truths], [heart.qtcf_ms for heart in after]) + longer_ms,
        np.fmax(hr, np.where(now.pacing_bpm > hr, now.pacing_bpm, hr)),
        np.concatenate([span.potassium for span in spans]),
        mmhg,
        fails,
    )


def _leader(heart: Heart) -> str:
    return rhythms()[heart.rhythm]["leader"]


def _together(spans: Sequence[Course]) -> Modulation:
    """The modulations of all spans, one after another, ``(N,)`` in every field."""
    return Modulation(*map(np.concatenate, zip(*(vars(span.change).values() for span in spans))))  # type: ignore[arg-type]


def death(expected: Mapping[str, float], struck: float, how: float) -> str:
    """ "", "vf" or "asystole": whether hazards that add up to ``expected`` struck; both numbers in [0, 1)."""
    total = sum(expected.values())
    return "" if not struck < -np.expm1(-total) else "asystole" if how * total < expected["asystole"] else "vf"


_NO_STRIP = Truth("", np.empty(0), (), np.empty(0), {"hr_bpm": np.nan, "qtcf_ms": np.nan}, np.empty(0), {})
