"""Beat trains of a batch: when atria and ventricles fire, and along which path, for every rhythm of ``rhythms.yaml``.

A rhythm is a row of the table (who leads, how fast, how irregular, what conducts); drugs change it through the
``Modulation`` only. Each row draws from streams of its own key, one per purpose, so that a drug does not change the
draws of another purpose and a row does not depend on its batch. Nothing here draws a waveform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.draws import below, between, gamma, normal, stream, uniform
from ecg_gym.virtual_patient.heart_arrays import HeartArrays
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.rhythm_arrays import COLUMNS, LEADERS, TIMINGS, WAVES, rhythm_table, timing_row

TORSADE = -1  # the kind of a beat that is a wave, not an activation of known order
_NORMAL, _ESCAPE, _PREEXCITED, _PACED = (KINDS.index(name) for name in ("normal", "escape", "preexcited", "paced"))
_SINUS, _ATRIAL, _PATHWAY, _REENTRY, _VENTRICULAR, _TORSADE_LED, _PACED_LED, _NONE = range(len(LEADERS))
_FLUTTER = WAVES.index("flutter")
(
    _LEADER, _WAVES, _INFRANODAL, _PASSES, _CONDUCT_OF, _GROWTH, _ESCAPE_BPM, _JUNCTIONAL, _SHARE, _EVERY, _RUN_LOW,
    _RUN_HIGH, _RUN_BPM, _COUPLING, _FOCUS, _GAMMA, _REFRACTORY, _ATRIAL_BPM, _ATRIAL_SD, _CONDUCTS, _FUSION_LOW,
    _FUSION_HIGH, _BEGINS_LOW, _BEGINS_HIGH, _LASTS_LOW, _LASTS_HIGH, _CYCLE_LOW, _CYCLE_HIGH, _PAUSE,
) = range(len(COLUMNS))  # fmt: skip
(
    _RESPIRATORY, _BREATH_LOW, _BREATH_HIGH, _SLOW_LOW, _SLOW_HIGH, _SDNN_EXPONENT, _SHORTEST_RR, _PR_SD, _FLUTTER_SD,
    _ESCAPE_SDNN, _REENTRY_SDNN, _VENTRICULAR_SDNN, _PACED_SDNN, _SPIKE, _LARGEST_SHARE, _REGULAR_FROM, _AFTER_ECTOPIC,
    _LONGEST_WENCKEBACH, _BLOCK_EXPONENT, _PATHWAY_PR, _FUSION_STEP, _WHOLE_FUSION,
) = range(len(TIMINGS))  # fmt: skip
_MINUTE, _RR, _DELAY, _ESCAPES, _ECTOPICS, _ATRIA = range(6)  # purposes of streams; waves and noise take 6 to 8


@dataclass(frozen=True)
class Trains:
    """The events of B strips, in seconds from the beginning of each train; what lies behind a count is undefined."""

    qrs_s: np.ndarray  # (B, M) the first ventricular cell fires, in order
    kind: np.ndarray  # (B, M) code of KINDS, or TORSADE
    pr_s: np.ndarray  # (B, M) from P to QRS where a P wave conducted; NaN otherwise
    fusion_ms: np.ndarray  # (B, M) how long after an accessory pathway the normal path arrives; 0 for other kinds
    mean_ms: np.ndarray  # (B, M) mean action potential duration; NaN until ``with_durations``
    beats: np.ndarray  # (B,) how many
    p_s: np.ndarray  # (B, P) the first atrial cell fires
    p_waves: np.ndarray  # (B,) how many
    cycles_s: np.ndarray  # (B, C) when each wave of flutter or torsade begins
    cycles: np.ndarray  # (B,) how many
    waves: np.ndarray  # (B,) code of WAVES
    paced: np.ndarray  # (B,) bool: a spike stands ``spike_ms`` before each beat
    apd_drift_ms: np.ndarray  # (B,) what this minute adds to the mean action potential duration


def beat_trains(hearts: HeartArrays, change: Modulation, keys: np.ndarray, seconds: float) -> Trains:
    """The trains of B hearts under ``change`` (numbers or arrays ``(B,)``), each by its key ``(B,)`` uint64."""
    b = len(hearts)
    most = math.ceil(seconds * 5) + 8
    words = ("sinus_rate", "av_rate", "pathway_rate", "escape_rate", "pr_ms", "av_block", "ectopy")
    changes = np.stack([np.broadcast_to(np.asarray(getattr(change, word), float), (b,)) for word in words], axis=1)
    strip = population()["strip"]
    spread = np.array([strip[name]["sd"] for name in ("rate", "pr_ms", "apd_ms")])
    floats, counts = np.full((4, b, most), np.nan), np.zeros((3, b), np.int64)
    kind, waves, p = np.zeros((b, most), np.int64), np.zeros(b, np.int64), np.empty((b, most))
    cycles, drift = np.empty((b, math.ceil((seconds + 2) * 7) + 8)), np.empty(b)
    own = (hearts.rhythm, hearts.conduction, hearts.rate_bpm, hearts.pr_ms, hearts.sdnn_ms)
    rhythm, conduction, rate_bpm, pr_ms, sdnn_ms = (np.ascontiguousarray(column) for column in own)
    _trains(
        np.asarray(keys, np.uint64), rhythm, conduction, rate_bpm, pr_ms, sdnn_ms, changes, spread, rhythm_table(),
        timing_row(), float(seconds), floats[0], kind, floats[1], floats[2], p, cycles, counts, waves, drift,
    )  # fmt: skip
    paced = rhythm_table()[hearts.rhythm, _LEADER] == _PACED_LED
    return Trains(floats[0], kind, floats[1], floats[2], floats[3], counts[0], p, counts[1], cycles, counts[2], waves,
                  paced, drift)  # fmt: skip


def spike_before_s() -> float:
    """How long before a paced beat its spike stands [s]."""
    return float(timing_row()[_SPIKE]) / 1000


@compiled
def _trains(
    keys: np.ndarray, rhythm: np.ndarray, conduction: np.ndarray, rate_bpm: np.ndarray, pr_ms: np.ndarray,
    sdnn_ms: np.ndarray, change: np.ndarray, spread: np.ndarray, table: np.ndarray, timing: np.ndarray, seconds: float,
    qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray, fusion: np.ndarray, p: np.ndarray, cycles: np.ndarray,
    counts: np.ndarray, waves: np.ndarray, drift: np.ndarray,
) -> None:  # fmt: skip
    rr = np.empty(4 * qrs.shape[1])
    for b in range(len(keys)):
        row, key, leader = table[rhythm[b]], keys[b], int(table[rhythm[b], _LEADER])
        minute = stream(key, _MINUTE)
        rate = rate_bpm[b] * (1 + spread[0] * normal(minute))
        pr_s = (pr_ms[b] + spread[1] * normal(minute) + change[b, 4]) / 1000
        drift[b] = spread[2] * normal(minute)
        if leader in (_SINUS, _TORSADE_LED):
            rate *= change[b, 0]
        elif leader == _ATRIAL:
            rate *= change[b, 1]
        elif leader == _PATHWAY:
            rate *= change[b, 2]
        path = _NORMAL if conduction[b] == _PREEXCITED else conduction[b]
        waves[b] = int(row[_WAVES])
        fusion[b] = 0
        q, k, r, f = qrs[b], kind[b], pr[b], fusion[b]
        if leader == _SINUS:
            n, m = _sinus(key, row, timing, rate, pr_s, sdnn_ms[b], conduction[b], path, change[b], seconds, rr, q, k,
                          r, f, p[b])  # fmt: skip
            counts[0, b], counts[1, b] = n, m
        elif leader == _ATRIAL:
            counts[0, b], counts[2, b] = _atrial(key, row, timing, rate, path, change[b], seconds, rr, q, k, cycles[b])
        elif leader == _PATHWAY:
            counts[0, b] = _pathway(key, row, timing, rate, seconds, rr, q, k, f)
        elif leader == _REENTRY:
            counts[0, b] = _regular(key, _RR, timing, rate, timing[_REENTRY_SDNN], seconds, rr, q)
            k[: counts[0, b]] = path
        elif leader == _VENTRICULAR:
            counts[0, b] = _regular(key, _RR, timing, rate, timing[_VENTRICULAR_SDNN], seconds, rr, q)
            k[: counts[0, b]] = int(row[_FOCUS])
        elif leader == _TORSADE_LED:
            n, m, c = _torsade(key, row, timing, rate, pr_s, sdnn_ms[b], path, seconds, rr, q, k, r, p[b], cycles[b])
            counts[0, b], counts[1, b], counts[2, b] = n, m, c
            if c < 2:
                waves[b] = 0
        elif leader == _PACED_LED:
            counts[0, b] = _regular(key, _RR, timing, rate, timing[_PACED_SDNN], seconds, rr, q)
            k[: counts[0, b]] = _PACED
            counts[1, b] = _regular(key, _ATRIA, timing, row[_ATRIAL_BPM], sdnn_ms[b], seconds, rr, p[b])


@compiled
def _intervals(s: np.ndarray, timing: np.ndarray, rate: float, sdnn_ms: float, seconds: float, rr: np.ndarray) -> int:
    """Fills ``rr`` [s] with respiratory and slow modulation, and says how many; faster hearts vary less."""
    mean = 60.0 / rate
    n = min(math.ceil(seconds / mean * 1.5) + 4, len(rr))
    sd = sdnn_ms / 1000 * min(1.0, mean) ** timing[_SDNN_EXPONENT]
    breathing = between(s, timing[_BREATH_LOW], timing[_BREATH_HIGH])
    slow = between(s, timing[_SLOW_LOW], timing[_SLOW_HIGH])
    first, second = between(s, 0, 2 * math.pi), between(s, 0, 2 * math.pi)
    share = timing[_RESPIRATORY]
    rest = math.sqrt((1 - share) / 2)
    for i in range(n):
        at = mean * i
        x = math.sqrt(2 * share) * math.sin(2 * math.pi * breathing * at + first)
        x += rest * math.sqrt(2.0) * math.sin(2 * math.pi * slow * at + second) + rest * normal(s)
        rr[i] = max(timing[_SHORTEST_RR], mean + sd * x)
    return n


@compiled
def _onsets(s: np.ndarray, rr: np.ndarray, n: int, seconds: float, out: np.ndarray) -> int:
    """Onsets from a random phase of the first interval to the end; none before zero, where no strip is."""
    at, count = -uniform(s) * rr[0], 0
    for i in range(n):
        at += rr[i]
        if at >= seconds or count >= len(out):
            break
        out[count] = at
        count += 1
    return count


@compiled
def _regular(
    key: np.uint64, purpose: int, timing: np.ndarray, rate: float, sdnn_ms: float, seconds: float, rr: np.ndarray,
    out: np.ndarray,
) -> int:  # fmt: skip
    s = stream(key, purpose)
    return _onsets(s, rr, _intervals(s, timing, rate, sdnn_ms, seconds, rr), seconds, out)


@compiled
def _irregular(
    key: np.uint64, row: np.ndarray, rate: float, seconds: float, rr: np.ndarray, out: np.ndarray
) -> int:  # fmt: skip
    """Beats of a fibrillating atrium: gamma-distributed RR, none within the refractory period, the rate as mean."""
    s, mean = stream(key, _RR), 60.0 / rate
    n = min(int(seconds / mean * 2) + 6, len(rr))
    total = 0.0
    for i in range(n):
        rr[i] = max(row[_REFRACTORY], gamma(s, row[_GAMMA]) * mean / row[_GAMMA])
        total += rr[i]
    for i in range(n):
        rr[i] *= mean * n / total
    return _onsets(s, rr, n, seconds, out)


@compiled
def _escape(
    key: np.uint64, row: np.ndarray, timing: np.ndarray, path: int, factor: float, seconds: float, rr: np.ndarray,
    qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray,
) -> int:  # fmt: skip
    """The focus that takes over when nothing is conducted."""
    n = _regular(key, _ESCAPES, timing, row[_ESCAPE_BPM] * factor, timing[_ESCAPE_SDNN], seconds, rr, qrs)
    kind[:n] = path if row[_JUNCTIONAL] else _ESCAPE
    pr[:n] = np.nan
    return n


@compiled
def _sinus(
    key: np.uint64, row: np.ndarray, timing: np.ndarray, rate: float, pr_s: float, sdnn_ms: float, conduction: int,
    path: int, change: np.ndarray, seconds: float, rr: np.ndarray, qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray,
    fusion: np.ndarray, p: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Sinus rhythm: normal, slow, fast, with AV block of any degree, pre-excited, with premature ventricular beats."""
    m = _regular(key, _RR, timing, rate, sdnn_ms, seconds, rr, p)
    s = stream(key, _DELAY)
    complete, place = change[5] > uniform(s), below(s, 1 << 20)
    conducted = np.empty(m, np.int64)  # which P wave each beat follows
    n = 0
    if conduction == _PREEXCITED:
        for i in range(m):
            delay, through = pr_s + timing[_PR_SD] / 1000 * normal(s), timing[_PATHWAY_PR] / 1000
            late = timing[_WHOLE_FUSION] if complete else 1000 * (delay - through)
            pr[i] = through if late > 0 else delay
            kind[i] = _PREEXCITED if late > 0 else _NORMAL
            fusion[i] = _rounded_fusion(max(late, 0.0), timing)
            qrs[i], conducted[i] = p[i] + pr[i], i
        n = m
    else:
        cycle = _conducted_of(row, timing, rate, change[1])
        if complete or cycle < 2:
            return _escape(key, row, timing, path, change[3], seconds, rr, qrs, kind, pr), m
        for i in range(m):
            delay = pr_s + timing[_PR_SD] / 1000 * normal(s)
            if not math.isinf(cycle):
                at = (place + i) % int(cycle)
                if (at != 0) if row[_INFRANODAL] else (at == int(cycle) - 1):
                    continue
                delay += row[_GROWTH] / 1000 * at
            qrs[n], kind[n], pr[n], conducted[n] = p[i] + delay, path, delay, i
            n += 1
    return _with_ectopics(key, row, timing, change[6], seconds, n, m, conducted, qrs, kind, pr, fusion, p)


@compiled
def _conducted_of(row: np.ndarray, timing: np.ndarray, rate: float, av_rate: float) -> float:
    """After how many P waves conduction starts anew (one of them is blocked); inf for 1:1, below 2 for none at all.

    A block in the node follows the drugs that speed or slow the node; one below it does not, and passes at most so many
    beats a minute: a faster sinus node then means a worse ratio.
    """
    if row[_INFRANODAL]:
        return 0.0 if math.isnan(row[_PASSES]) else math.ceil(rate / row[_PASSES]) * 1.0
    if math.isnan(row[_CONDUCT_OF]):
        return math.inf
    cycle = np.rint(row[_CONDUCT_OF] * av_rate ** timing[_BLOCK_EXPONENT])
    return math.inf if cycle > timing[_LONGEST_WENCKEBACH] else cycle


@compiled
def _rounded_fusion(fusion_ms: float, timing: np.ndarray) -> float:
    """Fusion in steps, so that few activation maps are needed, up to where the normal path comes too late to matter."""
    step = timing[_FUSION_STEP]
    return min(max(np.rint(fusion_ms / step) * step, 0.0), timing[_WHOLE_FUSION])


@compiled
def _with_ectopics(
    key: np.uint64, row: np.ndarray, timing: np.ndarray, ectopy: float, seconds: float, n: int, m: int,
    conducted: np.ndarray, qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray, fusion: np.ndarray, p: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Early ventricular beats, single or in runs; the sinus beats they pre-empt are gone, their P waves are buried."""
    share = min(row[_SHARE] * ectopy, timing[_LARGEST_SHARE])
    if share <= 0 or n < 3:
        return n, m
    s, every = stream(key, _ECTOPICS), int(row[_EVERY])
    offset = below(s, every)
    regular = every > 1 and share >= timing[_REGULAR_FROM]
    rr = np.median(np.diff(qrs[:n]))
    within_run = row[_COUPLING] * rr if math.isnan(row[_RUN_BPM]) else 60 / row[_RUN_BPM]
    keep, early, count, until = np.ones(n, np.bool_), np.empty(len(qrs)), 0, -np.inf
    low, high = int(row[_RUN_LOW]), int(row[_RUN_HIGH])
    for i in range(n - 1):
        length, chance = low + below(s, high - low + 1), uniform(s)
        begins = (i + offset) % every == 0 if regular else chance < share
        if not begins or qrs[i] < until or not keep[i]:
            continue
        for j in range(length):
            at = qrs[i] + row[_COUPLING] * rr + within_run * j
            if at < seconds and count < len(early):
                early[count] = at
                count += 1
        until = qrs[i] + row[_COUPLING] * rr + within_run * (length - 1) + timing[_AFTER_ECTOPIC] * rr
        for j in range(i + 1, n):
            if qrs[j] < until:
                keep[j] = False
    buried = np.zeros(m, np.bool_)
    left = 0
    for i in range(n):
        if not keep[i]:
            buried[conducted[i]] = True
            continue
        qrs[left], kind[left], pr[left], fusion[left] = qrs[i], kind[i], pr[i], fusion[i]
        left += 1
    waves = 0
    for i in range(m):
        if not buried[i]:
            p[waves] = p[i]
            waves += 1
    for i in range(min(count, len(qrs) - left)):
        left = _insert(early[i], int(row[_FOCUS]), np.nan, left, qrs, kind, pr, fusion)
    return left, waves


@compiled
def _insert(
    at: float, code: int, delay: float, n: int, qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray, fusion: np.ndarray
) -> int:
    """A beat put in its place among ``n`` others; how many they are then."""
    j = n
    while j > 0 and qrs[j - 1] > at:
        qrs[j], kind[j], pr[j], fusion[j] = qrs[j - 1], kind[j - 1], pr[j - 1], fusion[j - 1]
        j -= 1
    qrs[j], kind[j], pr[j], fusion[j] = at, code, delay, 0.0
    return n + 1


@compiled
def _atrial(
    key: np.uint64, row: np.ndarray, timing: np.ndarray, rate: float, path: int, change: np.ndarray, seconds: float,
    rr: np.ndarray, qrs: np.ndarray, kind: np.ndarray, cycles: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Atrial fibrillation (gamma-distributed RR) or flutter (every second, third, fourth ... wave is conducted)."""
    s, c = stream(key, _ATRIA), 0
    complete = change[5] > uniform(s)
    if int(row[_WAVES]) == _FLUTTER:
        atrial = row[_ATRIAL_BPM] + row[_ATRIAL_SD] * normal(s)
        c = min(int((seconds + 2) * atrial / 60), len(cycles))
        first = between(s, 1, 2)
        for i in range(c):
            cycles[i] = 60 / atrial * (i - first)
    if complete:
        return _escape(key, row, timing, path, change[3], seconds, rr, qrs, kind, np.empty(len(qrs))), c
    if int(row[_WAVES]) != _FLUTTER:
        n = _irregular(key, row, rate, seconds, rr, qrs)
        kind[:n] = path
        return n, c
    every = max(1, int(np.rint(atrial / rate)))
    n = 0
    for i in range(below(s, every), c, every):
        at = cycles[i] + (row[_CONDUCTS] + timing[_FLUTTER_SD] * normal(s)) / 1000
        if 0 < at < seconds and n < len(qrs):
            qrs[n], kind[n] = at, path
            n += 1
    return n, c


@compiled
def _pathway(
    key: np.uint64, row: np.ndarray, timing: np.ndarray, rate: float, seconds: float, rr: np.ndarray, qrs: np.ndarray,
    kind: np.ndarray, fusion: np.ndarray,
) -> int:  # fmt: skip
    """Atrial fibrillation through an accessory pathway: fast, irregular, every beat fused to another degree."""
    n, s = _irregular(key, row, rate, seconds, rr, qrs), stream(key, _DELAY)
    for i in range(n):
        kind[i] = _PREEXCITED
        fusion[i] = _rounded_fusion(between(s, row[_FUSION_LOW], row[_FUSION_HIGH]), timing)
    return n


@compiled
def _torsade(
    key: np.uint64, row: np.ndarray, timing: np.ndarray, rate: float, pr_s: float, sdnn_ms: float, path: int,
    seconds: float, rr: np.ndarray, qrs: np.ndarray, kind: np.ndarray, pr: np.ndarray, p: np.ndarray,
    cycles: np.ndarray,
) -> tuple[int, int, int]:  # fmt: skip
    """Slow sinus beats with a long QT, an early beat on the T wave after a pause, then a run of torsade."""
    m, s = _regular(key, _RR, timing, rate, sdnn_ms, seconds, rr, p), stream(key, _ECTOPICS)
    begin = between(s, row[_BEGINS_LOW], row[_BEGINS_HIGH])
    end = begin + between(s, row[_LASTS_LOW], row[_LASTS_HIGH])
    at, c = begin, 0
    while True:
        at += between(s, row[_CYCLE_LOW], row[_CYCLE_HIGH])
        if at >= end or at >= seconds or c >= len(cycles):
            break
        cycles[c] = at
        c += 1
    n, waves, unused = 0, 0, np.zeros(len(qrs))
    for i in range(m):
        if p[i] + pr_s < begin - row[_PAUSE] or p[i] > end + row[_PAUSE]:
            qrs[n], kind[n], pr[n], p[waves] = p[i] + pr_s, path, pr_s, p[i]
            n, waves = n + 1, waves + 1
    if n < len(qrs):
        n = _insert(begin, int(row[_FOCUS]), np.nan, n, qrs, kind, pr, unused)
    for i in range(min(c, len(qrs) - n)):
        n = _insert(cycles[i], TORSADE, np.nan, n, qrs, kind, pr, unused)
    return n, waves, c


def with_durations(trains: Trains, hearts: HeartArrays, mean_ms: np.ndarray) -> Trains:
    """The same trains with the mean action potential duration of every beat, filled in place.

    ``mean_ms (B,)`` is that at 60/min (``BeatTargets.mean_ms``). It follows the rate with memory, and the minute adds
    its own.
    """
    table = heart_table()
    law = np.array([table["rate_law"][name] for name in ("previous", "exponent", "memory_beats", "slowest_bpm")], float)
    _durations(
        trains.qrs_s, trains.beats, mean_ms + trains.apd_drift_ms, hearts.rate_bpm, law,
        float(table["action_potential"]["shortest_ms"]), trains.mean_ms,
    )  # fmt: skip
    return trains


@compiled
def _durations(
    qrs: np.ndarray, beats: np.ndarray, mean_ms: np.ndarray, rate_bpm: np.ndarray, law: np.ndarray, shortest_ms: float,
    out: np.ndarray,
) -> None:  # fmt: skip
    previous, exponent, memory_beats, slowest = law
    for b in range(len(beats)):
        n = beats[b]
        if n == 0:
            continue
        typical = np.median(np.diff(qrs[b, :n])) if n > 1 else 60 / max(rate_bpm[b], slowest)
        memory = typical  # the strip is cut out of a longer one
        for i in range(n):
            rr = qrs[b, i] - qrs[b, i - 1] if i > 0 else typical
            if i > 0:
                memory += (rr - memory) / memory_beats
            factor = (previous * rr + (1 - previous) * memory) ** exponent
            out[b, i] = max(mean_ms[b] * factor, shortest_ms)
