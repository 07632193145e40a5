"""Ectopic beats of a strip, as they were recorded: found once, put into strips that are drawn of the same patient.

McSharry's model runs one typical beat; ventricular extrasystoles, couplets and runs have another shape and come early.
An episode is cut out of the strip with its coupling to the beat before and the pause behind it. ``with_episodes`` makes
room for some in a series of beats, ``overlay`` draws them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    as_twelve_leads,
    independent_from_leads,
)
from ecg_gym.physiology import parameters
from ecg_gym.physiology.rr_series import STRIP_S
from ecg_gym.waveform.beats import RATE_HZ, conditioned_beats, typical_beat

_QRS = (-35, 50)  # samples at RATE_HZ around R in which beats are compared: -70 to 100 ms
_LAGS = range(-12, 13, 3)  # samples, 24 ms either way


@dataclass(frozen=True)
class Episode:
    """One or more ectopic beats in a row."""

    signal: np.ndarray  # (8, n) float32 [mV] on the model grid; its first R is `lead_s` behind its begin
    beats_s: tuple[float, ...]  # [s] R peaks after the first one, which is at 0
    coupling: float  # first interval over the usual one
    pause: float  # interval behind the last ectopic beat over the usual one

    @property
    def length_s(self) -> float:
        """From the first R peak to the last [s]."""
        return self.beats_s[-1]


@dataclass(frozen=True)
class Ectopy:
    """The episodes of one strip, and how often they came."""

    episodes: tuple[Episode, ...] = ()
    starts_s: tuple[float, ...] = ()  # [s] first R peak of each
    per_beat: float = 0.0  # episodes for each beat of the usual shape


@dataclass(frozen=True)
class Placement:
    """Where an episode is drawn."""

    at_s: float  # its first R peak [s]
    episode: Episode


NONE = Ectopy()


def find_ectopy(ecg: np.ndarray) -> list[Ectopy]:
    """The ectopic beats of strips ``(B, 12 or 8, 1024)`` [mV]; none where no two beats look alike."""
    strips = as_twelve_leads(np.asarray(ecg, np.float32))
    finite = np.isfinite(strips).all(axis=(1, 2))
    leads, peaks = conditioned_beats(ECG(np.where(finite[:, None, None], strips, 0), MODEL_RATE_HZ))
    own = independent_from_leads(strips)
    return [_of(*row) if ok else NONE for ok, *row in zip(finite, own, leads, peaks)]


def _of(strip: np.ndarray, leads: np.ndarray, peaks: np.ndarray) -> Ectopy:
    beat = typical_beat(leads, peaks) if len(peaks) > 2 else None
    if beat is None:
        return NONE
    other = _unlike(leads, peaks, beat.members)
    usual = _usual_interval_s(peaks, other)
    if not other.any() or not np.isfinite(usual):
        return NONE
    seconds = peaks / RATE_HZ
    edges = np.flatnonzero(np.diff(np.r_[0, other.astype(int), 0]))
    episodes, starts = [], []
    for first, beyond in zip(edges[::2], edges[1::2]):
        if first == 0:
            continue  # nobody knows what it was coupled to
        coupling = (seconds[first] - seconds[first - 1]) / usual
        if coupling > parameters.value("ectopy", "latest"):
            continue  # an escape beat, no ectopic one
        pause = (seconds[beyond] - seconds[beyond - 1]) / usual if beyond < len(peaks) else 2 - coupling
        until = seconds[beyond] if beyond < len(peaks) else STRIP_S
        signal = _cut(strip, float(seconds[first]), float(seconds[beyond - 1]), float(until))
        run = tuple(float(x) for x in seconds[first:beyond] - seconds[first])
        episodes.append(Episode(signal, run, float(coupling), float(max(pause, 0.5))))
        starts.append(float(seconds[first]))
    return Ectopy(tuple(episodes), tuple(starts), len(episodes) / max(1, int((~other).sum())))


def _unlike(leads: np.ndarray, peaks: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Which of the beats ``(N,)`` have a QRS of another shape than the typical one."""
    begin, end = _QRS
    whole = (peaks + begin + _LAGS[0] >= 0) & (peaks + end + _LAGS[-1] <= leads.shape[1])
    typical = _unit(np.mean([leads[:, p + begin : p + end] for p in peaks[members & whole]], axis=0)) if (
        members & whole).any() else None  # fmt: skip
    result = np.zeros(len(peaks), bool)
    if typical is None:
        return result
    for i in np.flatnonzero(~members & whole):
        shapes = [_unit(leads[:, peaks[i] + lag + begin : peaks[i] + lag + end]) for lag in _LAGS]
        result[i] = max(float((shape * typical).sum()) for shape in shapes) < parameters.value("ectopy", "alike")
    return result


def _unit(shape: np.ndarray) -> np.ndarray:
    centred = shape - shape.mean(axis=1, keepdims=True)
    return centred / max(float(np.linalg.norm(centred)), 1e-9)


def _usual_interval_s(peaks: np.ndarray, other: np.ndarray) -> float:
    """The median interval [s] between two beats of the usual shape; half of what a bigeminus leaves between them."""
    plain = np.diff(peaks)[~other[1:] & ~other[:-1]]
    if len(plain) >= 2:
        return float(np.median(plain)) / RATE_HZ
    usual = np.diff(peaks[~other])
    return float(np.median(usual)) / RATE_HZ / 2 if len(usual) else np.nan


def _cut(strip: np.ndarray, first_s: float, last_s: float, next_s: float) -> np.ndarray:
    """The piece ``(8, n)`` of a strip from before the first ectopic QRS to behind the last T, or to the next beat."""
    before, after = (1e-3 * parameters.value("ectopy", name) for name in ("before", "after"))
    end = min(last_s + after, next_s - before, STRIP_S)
    begin = first_s - before
    at = begin + np.arange(max(2, round((end - begin) * MODEL_RATE_HZ))) / MODEL_RATE_HZ
    grid = np.arange(strip.shape[1]) / MODEL_RATE_HZ
    level = np.median(strip, axis=1)
    return np.stack([np.interp(at, grid, row) for row in strip - level[:, None]]).astype(np.float32)


def with_episodes(
    rng: np.random.Generator, beats_s: np.ndarray, first_s: float, ectopy: Ectopy, often: float = 1.0, least: int = 0
) -> tuple[np.ndarray, list[Placement]]:
    """A series of beats ``(K,)`` [s] with room for ectopic ones, as long as it was, and where they stand.

    ``often`` is a factor on how often they came in the strip, ``least`` how many episodes there are at least. The
    generator is used equally much whatever is asked.
    """
    own = np.random.default_rng(rng.integers(2**63))
    if not ectopy.episodes or (often <= 0 and least <= 0):
        return beats_s, []
    times = first_s + np.concatenate([[0.0], np.cumsum(beats_s)])
    slots = np.flatnonzero(times[:-1] < STRIP_S)[:-1]  # the beat behind which an episode may come
    expected = ectopy.per_beat * often * len(slots) / (1 + ectopy.per_beat * often)
    count = min(max(int(expected + own.random()), least), max(1, (len(slots) + 1) // 2))
    behind, which = set(own.permutation(slots)[:count].tolist()), own.integers(len(ectopy.episodes), size=len(slots))
    series, places = _with(beats_s, first_s, ectopy, behind, which, 1.0)
    usual, there = (int((first_s + np.cumsum(x) < STRIP_S).sum()) for x in (beats_s, series))
    return (
        _with(beats_s, first_s, ectopy, behind, which, there / usual) if usual and there != usual else (series, places)
    )


def _with(
    beats_s: np.ndarray, first_s: float, ectopy: Ectopy, behind: set[int], which: np.ndarray, slower: float
) -> tuple[np.ndarray, list[Placement]]:
    """Episodes behind these beats, usual intervals that much slower: runs are fast, and the mean rate shall stay."""
    out, places, at, k = [first_s], list[Placement](), first_s, 0
    while at < STRIP_S + 1 and k < len(beats_s):
        rr = beats_s[k] * slower
        if k in behind:
            episode = ectopy.episodes[which[len(places) % len(which)]]
            start = at + episode.coupling * rr
            out += [start + beat for beat in episode.beats_s]
            places.append(Placement(float(start), episode))
            at = start + episode.length_s + episode.pause * rr
            k += 1 + len(episode.beats_s)
        else:
            at += rr
            k += 1
        out.append(at)
    return _as_long(np.diff(out), len(beats_s)), places


def _as_long(series: np.ndarray, length: int) -> np.ndarray:
    """The series with its last interval repeated, or cut, to that many."""
    return np.concatenate([series, np.full(max(0, length - len(series)), series[-1])])[:length]


def recorded_places(ectopy: Ectopy, then: Ectopy) -> list[Placement]:
    """Episodes of one strip of a patient where another strip has its own: those of nearest length."""
    if not ectopy.episodes:
        return []
    lengths = np.array([len(episode.beats_s) for episode in ectopy.episodes])
    return [
        Placement(start, ectopy.episodes[int(np.argmin(np.abs(lengths - len(episode.beats_s))))])
        for start, episode in zip(then.starts_s, then.episodes)
    ]


def overlay(trace: np.ndarray, places: Sequence[Placement], level_mv: np.ndarray | float = 0.0) -> np.ndarray:
    """The strip ``(8, 1024)`` [mV] with these episodes drawn over what was there, faded in and out."""
    out = np.array(trace, dtype=np.float32)
    before, fade = (1e-3 * parameters.value("ectopy", name) for name in ("before", "fade"))
    grid, level = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ, np.broadcast_to(level_mv, len(INDEPENDENT_LEADS))
    for place in places:
        since = grid - (place.at_s - before)
        length = (place.episode.signal.shape[1] - 1) / MODEL_RATE_HZ
        there = np.flatnonzero((since >= 0) & (since <= length))
        if not len(there):
            continue
        own = np.arange(place.episode.signal.shape[1]) / MODEL_RATE_HZ
        weight = np.clip(np.minimum(since[there], length - since[there]) / fade, 0, 1).astype(np.float32)
        for lead in range(len(INDEPENDENT_LEADS)):
            ectopic = np.interp(since[there], own, place.episode.signal[lead]) + level[lead]
            out[lead, there] += weight * (ectopic - out[lead, there])
    return out
