"""Real strips for the denoiser: the same ten seconds begun at another beat. Nothing was given, so nothing may change.

There are no real strips before and after a drug here. But a denoiser that has only drawn virtual hearts pulls real ones
toward them; a real strip that must be redrawn with its own intervals, from its own first beat to another, keeps it from
that. Patients who test the codec or the world model are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecg_gym.core import MODEL_RATE_HZ, R_PEAK_OFFSET_S, Patient, limb_from_independent
from ecg_gym.physiology import TARGET_INTERVALS, anchor_traces, find_ectopy, fit_leads, recorded_beats
from ecg_gym.world_model.codecs import Codec
from ecg_gym.world_model.conditioning import OBSERVED, exposures, observe_strips, people
from training.data.pairs import Drawings, encode, load_or_make, measured_after, rows_of, with_recorded_ectopy
from training.data.strips import Strips, replayed

CHUNK = 256


def real_drawings(strips: Strips, vae: Codec, kept_at: Path, begun_again: int = 2, seed: int = 0) -> Drawings:
    """Each training strip as a reference, and as many times begun at another of its beats; kept in one file."""
    learned = strips.of("train")
    return Drawings(**load_or_make(kept_at, lambda: _make(learned, vae, begun_again, seed)))  # type: ignore[arg-type]


def _make(strips: Strips, vae: Codec, begun_again: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    signals: list[np.ndarray] = []
    before: list[int] = []
    after: list[int] = []
    for row in range(len(strips)):
        signal, peaks = strips.signal[row].astype(np.float32), strips.peaks[row]
        starts = peaks[(peaks >= 0) & (peaks < signal.shape[1] // 2)][1:] - round(R_PEAK_OFFSET_S * MODEL_RATE_HZ)
        places = rng.permutation(starts[starts > 0])[:begun_again]
        if not len(places):
            continue
        first = len(signals)
        signals += [signal, *[replayed(signal, peaks.astype(int), int(start)) for start in places]]
        before += [first] * len(places)
        after += list(range(first + 1, len(signals)))
    whole = np.stack(signals).astype(np.float16)
    observed = np.concatenate(
        [observe_strips(limb_from_independent(whole[i : i + CHUNK].astype(float))) for i in range(0, len(whole), CHUNK)]
    )
    usable = np.isfinite(observed[:, 0])
    pairs = np.array([(i, j) for i, j in zip(before, after) if usable[i] and usable[j]])
    return _encoded(whole, observed.astype(np.float32), pairs[:, 0], pairs[:, 1], vae, rng)


def _encoded(
    strips: np.ndarray,
    observed: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    vae: Codec,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    order = rng.random((len(strips), strips.shape[1])).argsort(axis=1)
    missing = order < rng.integers(1, 7, size=(len(strips), 1))
    everything = np.zeros_like(missing)
    latent = encode(vae, strips, everything)
    samples, drawable = _priors(strips, observed, before, after)
    place = np.where(drawable, np.cumsum(drawable) - 1, -1)
    hours, anybody = np.zeros(len(strips)), (Patient(),) * len(strips)
    return {
        "latent": latent,
        "masked": encode(vae, strips, missing),
        "missing": missing,
        "decoded_intervals": measured_after(vae, latent),
        "observed": observed,
        "exposure": exposures(((),) * len(strips), anybody, hours),
        "person": people(anybody),
        "hours": hours,
        "prior": encode(vae, samples[drawable], everything[: int(drawable.sum())]),
        "before": before,
        "after": after,
        "place": place,
    }


def _priors(
    strips: np.ndarray, observed: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """EPK of the pairs ``(N, 8, 1024)`` [mV], and where there is one ``(N,)``."""
    references, which = np.unique(before, return_inverse=True)
    fit = fit_leads(strips[references].astype(np.float32), [rows_of(row) for row in observed[references]])[which]
    targets = observed[after][:, [OBSERVED.index(name) for name in TARGET_INTERVALS]]
    beats = recorded_beats(strips[after].astype(np.float32))
    p_present = observed[after][:, OBSERVED.index("p_present")] > 0
    samples = anchor_traces(fit, targets, beats, p_present=p_present, abstain=False)
    own, then = (find_ectopy(strips[rows].astype(np.float32)) for rows in (references, after))
    samples = with_recorded_ectopy(samples, [own[i] for i in which], then, fit.baseline_mv)
    return samples.astype(np.float16), fit.drawable & np.isfinite(beats).all(axis=1) & (np.abs(samples).max((1, 2)) > 0)
