"""Beat trains: when the atria and the ventricles fire, and along which path, for every rhythm of ``rhythms.yaml``.

A rhythm is a row of the table (who leads, how fast, how irregular, what conducts); drugs change it through the
``Modulation`` only. Nothing here draws a waveform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.rhythm_table import _table, rhythms, timing

if TYPE_CHECKING:
    from ecg_gym.virtual_patient.heart import Heart

TORSADE = "torsade"  # the kind of a beat that is a wave, not an activation of known order
_NONE = np.empty(0)


@dataclass(frozen=True)
class Train:
    """The events of a strip, in seconds from its start; ventricular beats in order."""

    qrs_s: np.ndarray  # (M,) the first ventricular cell fires
    kind: tuple[str, ...]  # (M,) key of an activation map, or "torsade"
    p_s: np.ndarray  # (P,) the first atrial cell fires
    pr_s: np.ndarray  # (M,) from P to QRS where a P wave conducted; NaN otherwise
    fusion_ms: np.ndarray  # (M,) how long after an accessory pathway the normal path arrives; 0 for other kinds
    waves: str = ""  # "", "fibrillation", "flutter", "ventricular", "torsade": see ``waves``
    cycles_s: np.ndarray = field(default_factory=lambda: _NONE)  # when each wave of flutter or torsade begins
    spikes_s: np.ndarray = field(default_factory=lambda: _NONE)  # pacing spikes

    def where(self, beats: np.ndarray, p: np.ndarray, start_s: float) -> Train:
        """The chosen beats (M,) and P waves (P,) on a clock that begins at ``start_s``."""
        kept = tuple(kind for kind, chosen in zip(self.kind, beats) if chosen)
        qrs, p_waves = self.qrs_s[beats] - start_s, self.p_s[p] - start_s
        return Train(qrs, kept, p_waves, self.pr_s[beats], self.fusion_ms[beats], self.waves)


def train_of(
    qrs: np.ndarray,
    kind: str,
    p: np.ndarray = _NONE,
    pr: np.ndarray | None = None,
    fusion_ms: float | np.ndarray = 0.0,
    waves: str = "",
    cycles: np.ndarray = _NONE,
    spikes: np.ndarray = _NONE,
) -> Train:
    """Beats ``qrs (M,)`` [s] all of one kind."""
    nothing = np.full(len(qrs), np.nan)
    fusion = np.broadcast_to(np.asarray(fusion_ms, float), qrs.shape).copy()
    return Train(qrs, (kind,) * len(qrs), p, nothing if pr is None else pr, fusion, waves, cycles, spikes)


@dataclass(frozen=True)
class _Strip:
    """What the makers of trains need to know."""

    row: Mapping[str, Any]
    rate: float  # of the leader under the drugs [1/min]
    pr_s: float  # under the drugs
    sdnn_ms: float
    conduction: str
    change: Modulation
    rng: np.random.Generator
    seconds: float

    @property
    def path(self) -> str:
        """The path beats take through the AV node."""
        return "normal" if self.conduction == "preexcited" else self.conduction


def beat_train(
    heart: Heart, change: Modulation, rate_bpm: float, pr_ms: float, rng: np.random.Generator, seconds: float
) -> Train:
    """One strip's worth of beats of a heart whose rate and PR, before any drug, are those of this minute."""
    row = rhythms()[heart.rhythm]
    leader = row["leader"]
    factor = {"sinus": change.sinus_rate, "torsade": change.sinus_rate, "atrial": change.av_rate,
              "pathway": change.pathway_rate}.get(leader, 1.0)  # fmt: skip
    strip = _Strip(row, rate_bpm * factor, (pr_ms + change.pr_ms) / 1000, heart.sdnn_ms, heart.conduction, change, rng,
                   seconds)  # fmt: skip
    makers = {
        "sinus": _sinus,
        "atrial": _atrial,
        "pathway": _pathway,
        "reentry": _reentry,
        "ventricular": _ventricular,
        "torsade": _torsade,
        "paced": _paced,
        "none": lambda s: train_of(_NONE, "", waves=s.row.get("waves", "")),
    }
    return makers[leader](strip)


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


def _sinus(s: _Strip) -> Train:
    """Sinus rhythm: normal, slow, fast, with AV block of any degree, pre-excited, with premature ventricular beats."""
    p = _onsets(_intervals(s.rate, s.sdnn_ms, s.rng, s.seconds), s.rng, s.seconds)
    complete = s.change.av_block > s.rng.random()
    escape = _escape(s)  # drawn whether needed or not, so that a drug does not change the draws that follow
    delay = s.pr_s + timing("pr_sd_ms") / 1000 * s.rng.standard_normal(len(p))
    place = s.rng.integers(1 << 20) + np.arange(len(p))
    if s.conduction == "preexcited":
        return _with_ectopics(_preexcited(s, p, delay, complete), s)
    cycle = _conducted_of(s)
    if complete or cycle < 2:
        return train_of(*escape, p)
    conducted = np.ones(len(p), bool)
    if np.isfinite(cycle):
        place = place % int(cycle)
        conducted = place == 0 if s.row.get("infranodal") else place < int(cycle) - 1
        delay = delay + s.row.get("growth_ms", 0.0) / 1000 * np.where(conducted, place, 0)
    return _with_ectopics(train_of((p + delay)[conducted], s.path, p, delay[conducted]), s)


def _conducted_of(s: _Strip) -> float:
    """After how many P waves conduction starts anew (one of them is blocked); inf for 1:1, below 2 for none at all.

    A block in the node follows the drugs that speed or slow the node; one below it does not, and passes at most so many
    beats a minute: a faster sinus node then means a worse ratio.
    """
    row, most = s.row, timing("longest_wenckebach")
    if row.get("infranodal"):
        return np.ceil(s.rate / row["passes_bpm"]) if "passes_bpm" in row else 0.0
    if "conduct_of" not in row:
        return np.inf
    cycle = round(row["conduct_of"] * s.change.av_rate ** timing("block_exponent"))
    return np.inf if cycle > most else float(cycle)


def _escape(s: _Strip) -> tuple[np.ndarray, str]:
    """Beats and kind of the focus that takes over when nothing is conducted."""
    rate = s.row.get("escape_bpm", timing("escape_bpm")) * s.change.escape_rate
    qrs = _onsets(_intervals(rate, timing("escape_sdnn_ms"), s.rng, s.seconds), s.rng, s.seconds)
    return qrs, s.path if s.row.get("escape") == "junctional" else "escape"


def _preexcited(s: _Strip, p: np.ndarray, delay: np.ndarray, complete: bool) -> Train:
    """Sinus beats that reach the ventricles through an accessory pathway before they do through the AV node."""
    through = timing("pathway_pr_ms") / 1000
    fusion = np.full(len(p), timing("whole_fusion_ms")) if complete else 1000 * (delay - through)
    early = fusion > 0
    fusion = _rounded_fusion(np.where(early, fusion, 0.0))
    pr = np.where(early, through, delay)
    kind = tuple("preexcited" if e else "normal" for e in early)
    return Train(p + pr, kind, p, pr, fusion)


def _rounded_fusion(fusion_ms: np.ndarray) -> np.ndarray:
    """Fusion in steps, so that few activation maps are needed, up to where the normal path comes too late to matter."""
    step = timing("fusion_step_ms")
    return np.clip(np.round(fusion_ms / step) * step, 0.0, timing("whole_fusion_ms"))


def _with_ectopics(train: Train, s: _Strip) -> Train:
    """Early ventricular beats, single or in runs; the sinus beats they pre-empt are gone, their P waves are buried."""
    share = min(s.row.get("ectopic_share", 0.0) * s.change.ectopy, timing("largest_ectopic_share"))
    if share <= 0 or len(train.qrs_s) < 3:
        return train
    n, row = len(train.qrs_s), s.row
    regular = row.get("every") and share >= timing("regular_ectopy_from")
    begins = (np.arange(n) + s.rng.integers(row.get("every", 1))) % row.get("every", 1) == 0
    begins = begins if regular else s.rng.random(n) < share
    shortest, longest = row.get("run", (1, 1))
    rr = float(np.median(np.diff(train.qrs_s)))
    within_run = 60 / row["run_bpm"] if "run_bpm" in row else row["coupling"] * rr
    kept, early, until = np.ones(n, bool), [], -np.inf
    for i in range(n - 1):
        length = int(s.rng.integers(shortest, longest + 1))
        if not begins[i] or train.qrs_s[i] < until or not kept[i]:
            continue
        times = train.qrs_s[i] + row["coupling"] * rr + within_run * np.arange(length)
        until = float(times[-1]) + timing("after_ectopic") * rr
        kept[(train.qrs_s > train.qrs_s[i]) & (train.qrs_s < until)] = False
        early.extend(times[times < s.seconds])
    buried = np.isin(train.p_s, (train.qrs_s - train.pr_s)[~kept])
    qrs = np.concatenate([train.qrs_s[kept], early])
    order = np.argsort(qrs, kind="stable")
    kinds = [k for k, there in zip(train.kind, kept) if there] + [row["focus"]] * len(early)
    pad = np.zeros(len(early))
    return Train(
        qrs[order], tuple(kinds[i] for i in order), train.p_s[~buried],
        np.concatenate([train.pr_s[kept], pad + np.nan])[order], np.concatenate([train.fusion_ms[kept], pad])[order],
    )  # fmt: skip


def _atrial(s: _Strip) -> Train:
    """Atrial fibrillation (gamma-distributed RR) or flutter (every second, third, fourth ... wave is conducted)."""
    row, complete, escape = s.row, s.change.av_block > s.rng.random(), _escape(s)
    cycles = _NONE
    if row["waves"] == "flutter":
        atrial = s.rng.normal(*row["atrial_bpm"])
        cycles = 60 / atrial * (np.arange(int((s.seconds + 2) * atrial / 60)) - s.rng.uniform(1, 2))
        every = max(1, round(atrial / s.rate))
        qrs = cycles[int(s.rng.integers(every)) :: every] + row["conducts_ms"] / 1000
        qrs = qrs + timing("flutter_sd_ms") / 1000 * s.rng.standard_normal(len(qrs))
        qrs = qrs[(qrs > 0) & (qrs < s.seconds)]
    else:
        qrs = _onsets(_irregular(s), s.rng, s.seconds)
    if complete:
        return train_of(*escape, waves=row["waves"], cycles=cycles)
    return train_of(qrs, s.path, waves=row["waves"], cycles=cycles)


def _irregular(s: _Strip) -> np.ndarray:
    """RR [s] of a fibrillating atrium: gamma-distributed, not below the refractory period, with the rate as mean."""
    mean, shape = 60.0 / s.rate, s.row["gamma_shape"]
    refractory = s.row["refractory_s"]
    rr = np.maximum(refractory, s.rng.gamma(shape, mean / shape, int(s.seconds / mean * 2) + 6))
    return rr * (mean / rr.mean())


def _pathway(s: _Strip) -> Train:
    """Atrial fibrillation through an accessory pathway: fast, irregular, every beat fused to another degree."""
    qrs = _onsets(_irregular(s), s.rng, s.seconds)
    low, high = s.row["fusion_ms"]
    fusion = _rounded_fusion(s.rng.uniform(low, high, len(qrs)))
    return train_of(qrs, "preexcited", fusion_ms=fusion, waves=s.row["waves"])


def _reentry(s: _Strip) -> Train:
    """A supraventricular re-entry through the AV node: fast, regular as a clock, P waves hidden."""
    return train_of(_onsets(_intervals(s.rate, timing("reentry_sdnn_ms"), s.rng, s.seconds), s.rng, s.seconds), s.path)


def _ventricular(s: _Strip) -> Train:
    """Ventricular tachycardia from one focus."""
    rr = _intervals(s.rate, timing("ventricular_sdnn_ms"), s.rng, s.seconds)
    return train_of(_onsets(rr, s.rng, s.seconds), s.row["focus"])


def _torsade(s: _Strip) -> Train:
    """Slow sinus beats with a long QT, an early beat on the T wave after a pause, then a run of torsade."""
    p = _onsets(_intervals(s.rate, s.sdnn_ms, s.rng, s.seconds), s.rng, s.seconds)
    begin = s.rng.uniform(*s.row["begins_s"])
    end = begin + s.rng.uniform(*s.row["lasts_s"])
    shortest, longest = s.row["cycle_s"]
    cycles = begin + np.cumsum(s.rng.uniform(shortest, longest, int(s.seconds / shortest) + 1))
    cycles = cycles[(cycles < end) & (cycles < s.seconds)]
    sinus = (p + s.pr_s < begin - s.row["pause_s"]) | (p > end + s.row["pause_s"])
    qrs, kind = p[sinus] + s.pr_s, [s.path] * int(sinus.sum())
    pr = np.full(len(qrs), s.pr_s)
    every = np.concatenate([qrs, [begin], cycles])
    order = np.argsort(every, kind="stable")
    kinds = [*kind, s.row["focus"], *[TORSADE] * len(cycles)]
    nothing = np.full(len(cycles) + 1, np.nan)
    return Train(
        every[order], tuple(kinds[i] for i in order), p[sinus], np.concatenate([pr, nothing])[order],
        np.zeros(len(every)), s.row["waves"] if len(cycles) > 1 else "", cycles,
    )  # fmt: skip


def _paced(s: _Strip) -> Train:
    """A ventricular pacemaker: spikes, a paced path, P waves that march through on their own."""
    qrs = _onsets(_intervals(s.rate, timing("paced_sdnn_ms"), s.rng, s.seconds), s.rng, s.seconds)
    p = _onsets(_intervals(s.row["atrial_bpm"], s.sdnn_ms, s.rng, s.seconds), s.rng, s.seconds)
    return train_of(qrs, "paced", p, spikes=qrs - timing("spike_ms") / 1000)
