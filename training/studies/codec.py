"""What the codec keeps: errors on held-out strips beside trivial codes of the same size, and intervals through it.

Every code here spends 512 numbers on ten seconds of eight leads, as the latent does. Intervals are measured by the
same delineator before and after; a strip whose interval cannot be measured on either side is counted, not dropped
silently. Intervals of 95 % come from a bootstrap over records.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import dct, idct

from ecg_gym.core import ECG, INDEPENDENT_LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, limb_from_independent
from ecg_gym.waveform import Intervals, measure
from ecg_gym.world_model.checkpoint import sha256
from ecg_gym.world_model.vae import LATENT_CHANNELS, LATENT_LENGTH, VAE
from training.strips import Strips

NUMBERS = LATENT_CHANNELS * LATENT_LENGTH  # what any code may spend on a strip
MEASURED = ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "jtpeak_ms", "tpeak_tend_ms", "r_amplitude_mv", "t_amplitude_mv")
PATCH = MODEL_SAMPLES // LATENT_LENGTH  # samples under one latent column
_CHUNK = 64

Code = Callable[[np.ndarray], np.ndarray]  # (N, 8, 1024) [mV] -> the same, coded and decoded


def study(vae: VAE, path: Path, train: Strips, held_out: Strips, seed: int = 0) -> dict[str, Any]:
    """The study's document: errors of the codec and of the baselines, and what it does to the intervals."""
    signal = held_out.signal.astype(np.float32)
    decoded = decode_all(vae, signal)
    rng = np.random.default_rng(seed)
    errors = {name: strip_error(code(signal), signal) for name, code in baselines(train).items()}
    metrics: dict[str, Any] = {
        "mae_mv": {
            **with_interval(strip_error(decoded, signal), np.mean, rng),
            "baselines": {name: float(error.mean()) for name, error in errors.items()},
        },
        "mae_mv_median_strip": with_interval(strip_error(decoded, signal), np.median, rng),
        "mae_mv_one_lead_missing": with_interval(missing_lead_error(vae, signal), np.mean, rng),
    }
    before, after = intervals_of(signal), intervals_of(decoded)
    for name in MEASURED:
        metrics[f"change_{name}"] = interval_change(before, after, name, rng)
    return {
        "study": "codec",
        "model_sha256": sha256(path),
        "n_patients": len(np.unique(held_out.record)),
        "seeds": [seed],
        "data": list(held_out.sources),
        "metrics": metrics,
    }


@torch.no_grad()
def decode_all(vae: VAE, signal: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Strips ``(N, 8, 1024)`` [mV] through the codec and back; ``mask (8,)`` hides leads from it."""
    parts = []
    for start in range(0, len(signal), _CHUNK):
        strips = torch.from_numpy(signal[start : start + _CHUNK])
        present = None if mask is None else torch.from_numpy(mask).expand(len(strips), -1)
        parts.append(vae.reconstruct(vae.posterior(strips, present)[0]).numpy())
    return np.concatenate(parts)


def missing_lead_error(vae: VAE, signal: np.ndarray) -> np.ndarray:
    """Mean absolute error ``(N,)`` [mV] on a lead that the codec was not shown, averaged over the eight choices."""
    errors = []
    for lead in range(len(INDEPENDENT_LEADS)):
        mask = np.ones(len(INDEPENDENT_LEADS), np.float32)
        mask[lead] = 0
        errors.append(np.abs(decode_all(vae, signal, mask)[:, lead] - signal[:, lead]).mean(axis=-1))
    return np.mean(errors, axis=0)


def baselines(train: Strips) -> dict[str, Code]:
    """Trivial codes of 512 numbers: nothing at all, a low-pass per lead, one over three lead components, patch PCA."""
    signal = train.signal[:: max(1, len(train) // 1000)].astype(np.float32)
    patch_axes = _principal(_patches(signal), LATENT_CHANNELS)
    lead_axes = _principal(signal.swapaxes(1, 2).reshape(-1, len(INDEPENDENT_LEADS)), 3)
    return {
        "flat line": np.zeros_like,
        "DCT, 64 per lead": lambda x: low_pass(x, NUMBERS // len(INDEPENDENT_LEADS)),
        "3 lead components, DCT of 170 each": lambda x: np.einsum(
            "lk,nkt->nlt", lead_axes, low_pass(np.einsum("lk,nlt->nkt", lead_axes, x), NUMBERS // 3)
        ),
        "PCA of 78 ms patches, 4 each": lambda x: _unpatch(_patches(x) @ patch_axes @ patch_axes.T, len(x)),
    }


def low_pass(signal: np.ndarray, keep: int) -> np.ndarray:
    """The signal with only its ``keep`` lowest cosine coefficients (DCT-II) per row."""
    spectrum = dct(signal, axis=-1, norm="ortho")
    spectrum[..., keep:] = 0
    return idct(spectrum, axis=-1, norm="ortho")


def strip_error(decoded: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Mean absolute error per strip over the 8 independent leads, ``(N,)`` [mV]."""
    return np.abs(decoded - signal).mean(axis=(1, 2))


def intervals_of(signal: np.ndarray) -> Intervals:
    """Intervals of strips of the 8 independent leads ``(N, 8, 1024)`` [mV]."""
    return measure(ECG(limb_from_independent(signal), MODEL_RATE_HZ))


def interval_change(before: Intervals, after: Intervals, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Mean change with its interval, SD, median absolute change, and how often either side could not be measured."""
    first, second = getattr(before, name), getattr(after, name)
    change = second - first
    measured = change[np.isfinite(change)]
    counts = {
        "n": len(measured),
        "n_failed_before": int(np.isnan(first).sum()),
        "n_failed_only_after": int((np.isnan(second) & ~np.isnan(first)).sum()),
    }
    if len(measured) < 2:
        return {"value": None, "ci95": None, **counts}
    spread = {"sd": float(measured.std(ddof=1)), "median_absolute": float(np.median(np.abs(measured)))}
    return {**with_interval(measured, np.mean, rng), **spread, **counts}


def with_interval(
    values: np.ndarray, statistic: Callable[..., np.floating], rng: np.random.Generator, n: int = 1000
) -> dict[str, Any]:
    """A statistic of ``(N,)`` values with its 95 % percentile interval from ``n`` bootstrap samples."""
    resampled = values[rng.integers(len(values), size=(n, len(values)))]
    low, high = np.quantile(statistic(resampled, axis=1), [0.025, 0.975])
    return {"value": float(statistic(values)), "ci95": [float(low), float(high)]}


def draw(vae: VAE, held_out: Strips, path: Path, n: int = 20, seed: int = 0) -> None:
    """A picture of ``n`` random strips, lead II and V3, as recorded (black) and as decoded (red)."""
    import matplotlib.pyplot as plt

    rows = np.random.default_rng(seed).permutation(len(held_out))[:n]
    signal = held_out.signal[rows].astype(np.float32)
    decoded = decode_all(vae, signal)
    seconds = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ
    figure, axes = plt.subplots(len(rows), 2, figsize=(22, 1.5 * len(rows)), sharex=True, squeeze=False)
    for row, pair in enumerate(axes):
        for axis, lead in zip(pair, ("II", "V3")):
            index = INDEPENDENT_LEADS.index(lead)
            axis.plot(seconds, signal[row, index], "k", lw=0.8)
            axis.plot(seconds, decoded[row, index], "r", lw=0.8)
            axis.set_title(f"{held_out.record[rows[row]]}  {lead} [mV]", fontsize=7, pad=1)
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)


def write(document: dict[str, Any], path: Path) -> None:
    """The study as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _principal(rows: np.ndarray, keep: int) -> np.ndarray:
    """The ``keep`` leading axes ``(D, keep)`` of rows ``(N, D)``, not centred: zero is the isoelectric line."""
    return np.linalg.eigh(rows.T @ rows)[1][:, -keep:]


def _patches(signal: np.ndarray) -> np.ndarray:
    n, leads, _ = signal.shape
    return signal.reshape(n, leads, LATENT_LENGTH, PATCH).swapaxes(1, 2).reshape(-1, leads * PATCH)


def _unpatch(patches: np.ndarray, n: int) -> np.ndarray:
    leads = len(INDEPENDENT_LEADS)
    return patches.reshape(n, LATENT_LENGTH, leads, PATCH).swapaxes(1, 2).reshape(n, leads, MODEL_SAMPLES)
