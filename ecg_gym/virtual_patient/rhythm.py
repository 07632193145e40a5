"""Beat trains: when the atria and the ventricles fire, and along which path, for every rhythm of ``rhythms.yaml``.

A rhythm is a row of the table (who leads, how fast, how irregular, what conducts); drugs change it through the
``Modulation`` only. Nothing here draws a waveform.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ecg_gym.pharmacology.modulation import Modulation


@dataclass(frozen=True)
class Train:
    """The events of a strip, in seconds from its start; ventricular beats in order."""

    qrs_s: np.ndarray  # (M,) onset of each ventricular beat
    kind: tuple[str, ...]  # (M,) key of an activation map
    p_s: np.ndarray  # (P,) onset of each P wave
    pr_s: np.ndarray  # (M,) PR of the beats a P wave conducted to; NaN otherwise
    fibrillatory: str = ""  # "", "fibrillation", "flutter", "ventricular"
    spikes_s: np.ndarray = field(default_factory=lambda: np.empty(0))  # pacing spikes


@cache
def _table() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(Path(__file__).with_name("rhythms.yaml").read_text(encoding="utf-8"))


def rhythms() -> dict[str, dict[str, Any]]:
    """The rows of the table, by the name of the rhythm."""
    return _table()["rhythms"]


def timing(name: str) -> float:
    """A figure that all rhythms share, in the table's unit."""
    return _table()["timing"][name]["value"]


def beat_train(
    rhythm: str,
    rate_bpm: float,
    pr_ms: float,
    sdnn_ms: float,
    conduction: str,
    change: Modulation,
    rng: np.random.Generator,
    seconds: float,
) -> Train:
    """One strip's worth of beats. ``rate_bpm`` is this person's in this rhythm before any drug; ``conduction`` the path
    (normal, lbbb, rbbb ...) that supraventricular beats take."""
    row = rhythms()[rhythm]
    if (leader := row["leader"]) == "none":
        return Train(np.empty(0), (), np.empty(0), np.empty(0), row.get("fibrillatory", ""))
    makers = {
        "sinus": _sinus,
        "atrial": _atrial_chaos,
        "reentry": _reentry,
        "ventricular": _ventricular,
        "paced": _paced,
    }
    rate = rate_bpm * (change.sinus_rate if leader == "sinus" else change.av_rate if leader == "atrial" else 1.0)
    return makers[leader](row, rate, pr_ms / 1000 + change.pr_ms / 1000, sdnn_ms, conduction, change, rng, seconds)


def _intervals(rate: float, sdnn_ms: float, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """RR series [s] with respiratory and slow modulation; faster hearts vary less (SDNN falls with RR)."""
    rr = 60.0 / rate
    n = int(np.ceil(seconds / rr * 1.5)) + 4
    at = rr * np.arange(n)
    sd = sdnn_ms / 1000 * min(1.0, rr) ** timing("sdnn_rr_exponent")
    bands, share = _table()["timing"], timing("respiratory_share")
    breathing, slow = (rng.uniform(bands[n]["low"], bands[n]["high"]) for n in ("breathing_hz", "slow_hz"))
    phase = rng.uniform(0, 2 * np.pi, 2)
    respiratory = np.sqrt(2 * share) * np.sin(2 * np.pi * breathing * at + phase[0])
    rest = np.sqrt((1 - share) / 2)
    slow_part = rest * np.sqrt(2) * np.sin(2 * np.pi * slow * at + phase[1])
    return np.maximum(timing("shortest_rr_s"), rr + sd * (respiratory + slow_part + rest * rng.standard_normal(n)))


def _onsets(rr: np.ndarray, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Onsets from a random phase of the first interval to the end of the strip; none before zero, where no strip is."""
    times = np.cumsum(rr) - rng.uniform(0, rr[0])
    return times[times < seconds]


def _sinus(row, rate, pr, sdnn_ms, conduction, change, rng, seconds) -> Train:
    """Sinus rhythm: normal, slow, fast, with AV block of any degree, with premature ventricular beats."""
    p = _onsets(_intervals(rate, sdnn_ms, rng, seconds), rng, seconds)
    degree = row.get("av_block", 1)
    blocked = change.av_block > rng.random()
    if degree == 3 or blocked:
        escape = row.get("escape_bpm", timing("escape_bpm"))
        qrs = _onsets(_intervals(escape, timing("escape_sdnn_ms"), rng, seconds), rng, seconds)
        return Train(qrs, ("escape",) * len(qrs), p, np.full(len(qrs), np.nan))
    delay = pr + timing("pr_sd_ms") / 1000 * rng.standard_normal(len(p))
    conducted = np.ones(len(p), bool)
    if degree == 2:
        cycle = row["conduct_of"]
        place = (np.arange(len(p)) + rng.integers(cycle)) % cycle
        conducted = place < cycle - 1
        delay = delay + row.get("growth_ms", 0.0) / 1000 * place
    train = Train(p[conducted] + delay[conducted], (conduction,) * int(conducted.sum()), p, delay[conducted])
    share = row.get("ectopic_share", 0.0) * change.ectopy
    return _with_ectopics(train, min(share, timing("largest_ectopic_share")), row, rng) if share > 0 else train


def _with_ectopics(train: Train, share: float, row: dict[str, Any], rng: np.random.Generator) -> Train:
    """Some sinus beats replaced by early ectopic ones; the pause is compensatory, the P wave is buried."""
    n = len(train.qrs_s)
    if row.get("every") and share >= timing("regular_ectopy_from"):
        chosen = (np.arange(n) + rng.integers(row["every"])) % row["every"] == 0
    else:
        chosen = rng.random(n) < share
        chosen[1:] &= ~chosen[:-1]
    chosen[:1] = False
    if not chosen.any():
        return train
    rr = np.median(np.diff(train.qrs_s))
    early = train.qrs_s[:-1] + row["coupling"] * rr
    qrs = np.where(chosen, np.r_[0.0, early], train.qrs_s)
    kind = tuple(row["focus"] if c else k for c, k in zip(chosen, train.kind))
    buried = np.isin(train.p_s, (train.qrs_s - train.pr_s)[chosen])
    return Train(qrs, kind, train.p_s[~buried], np.where(chosen, np.nan, train.pr_s))


def _atrial_chaos(row, rate, pr, sdnn_ms, conduction, change, rng, seconds) -> Train:
    """Atrial fibrillation (gamma-distributed RR) or flutter (a ratio of the atrial cycle)."""
    if row["fibrillatory"] == "flutter":
        ratio = max(1, round(row["atrial_bpm"] / rate))
        mean = ratio * 60 / row["atrial_bpm"]
        n = int(seconds / mean) + 4
        rr = np.full(n, mean) + timing("flutter_sd_ms") / 1000 * rng.standard_normal(n)
    else:
        mean, shape = 60.0 / rate, row["gamma_shape"]
        rr = np.maximum(row["refractory_s"], rng.gamma(shape, mean / shape, int(seconds / mean * 2) + 6))
        rr *= mean / rr.mean()
    qrs = _onsets(rr, rng, seconds)
    return Train(
        qrs, (row.get("path", conduction),) * len(qrs), np.empty(0), np.full(len(qrs), np.nan), row["fibrillatory"]
    )


def _reentry(row, rate, pr, sdnn_ms, conduction, change, rng, seconds) -> Train:
    """A supraventricular re-entry: fast, regular as a clock, P waves hidden."""
    qrs = _onsets(_intervals(rate, timing("reentry_sdnn_ms"), rng, seconds), rng, seconds)
    return Train(qrs, (conduction,) * len(qrs), np.empty(0), np.full(len(qrs), np.nan))


def _ventricular(row, rate, pr, sdnn_ms, conduction, change, rng, seconds) -> Train:
    """Ventricular tachycardia from one focus."""
    qrs = _onsets(_intervals(rate, timing("ventricular_sdnn_ms"), rng, seconds), rng, seconds)
    return Train(qrs, (row["focus"],) * len(qrs), np.empty(0), np.full(len(qrs), np.nan))


def _paced(row, rate, pr, sdnn_ms, conduction, change, rng, seconds) -> Train:
    """A ventricular pacemaker: spikes, a paced path, P waves that march through on their own."""
    qrs = _onsets(_intervals(rate, timing("paced_sdnn_ms"), rng, seconds), rng, seconds)
    p = _onsets(_intervals(row["atrial_bpm"], sdnn_ms, rng, seconds), rng, seconds)
    return Train(qrs, ("paced",) * len(qrs), p, np.full(len(qrs), np.nan), spikes_s=qrs - timing("spike_ms") / 1000)
