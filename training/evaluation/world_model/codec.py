"""What the codec keeps: errors on held-out strips beside trivial codes of the same size, and intervals through it.

Every code here spends 512 numbers on ten seconds of eight leads, as the latent does. Intervals are measured by the
same delineator before and after, and beside them stands what 10 uV of white noise does to the same measurement: a
strip on which the delineator jumps by itself says little about a codec. A strip whose interval cannot be measured on
either side is counted, not dropped silently. Intervals of 95 % come from a bootstrap over records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import dct, idct

from ecg_gym import checkpoint
from ecg_gym.core import ECG, INDEPENDENT_LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, limb_from_independent
from ecg_gym.waveform import Intervals, measure
from ecg_gym.world_model.vae import KIND, LATENT_LENGTH, VAE
from training.data.strips import Strips
from training.evaluation.result import document, estimate, mean_of, metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURED = (
    "hr_bpm",
    "pr_ms",
    "qrs_ms",
    "qt_ms",
    "qtcf_ms",
    "jtpeak_ms",
    "tpeak_tend_ms",
    "r_amplitude_mv",
    "t_amplitude_mv",
)
PATCH = MODEL_SAMPLES // LATENT_LENGTH  # samples under one latent column
FAR_MS = 40.0  # a QTcF that moves by more would change a clinical decision
NOISE_MV = 0.01  # white, SD: what the delineator's own jitter is measured with
_CHUNK = 64


@dataclass(frozen=True)
class Size:
    """How many strips are looked at."""

    real: int = 10_000  # all there are
    virtual: int = 400
    rare: int = 400  # virtual too, rhythm and conduction drawn evenly
    learned: int = 1000  # to fit the trivial codes to


QUICK = Size(real=60, virtual=60, rare=60, learned=200)

Code = Callable[[np.ndarray], np.ndarray]  # (N, 8, 1024) [mV] -> the same, coded and decoded


def study(path: Path, sets: Mapping[str, tuple[Strips, Strips]], seed: int = 0, gallery: bool = True) -> dict[str, Any]:
    """The study's document for the weights at ``path``: errors of the codec and of the baselines, and what it does to
    the intervals, for each named pair of (strips the trivial codes learn from, held-out strips); a row per case of the
    virtual patient's gallery.
    """
    stored = checkpoint.load(path, KIND)
    vae = VAE.load(path)
    metrics: dict[str, Any] = {}
    for name, (learned, held_out) in sets.items():
        metrics |= {f"{name}_{key}": value for key, value in judge(vae, learned, held_out, seed).items()}
    patients = sum(len(np.unique(held_out.record)) for _, held_out in sets.values())
    data = {name: list(held_out.sources) for name, (_, held_out) in sets.items()}
    rows = gallery_rows(vae) if gallery else []
    return document("codec", stored, patients, [seed], metrics, rows, data=data, noise_mv=NOISE_MV)


def held_out_strips(data: Path | None, run: Path | None, size: Size) -> dict[str, tuple[Strips, Strips]]:
    """What to judge, by name, each with what the trivial codes learn from.

    Real strips under ``data``, or the strips of a ``run`` of ``train vae``, or both; without a run, virtual strips are
    made of people that no training met. Raises ValueError for a run without strips.
    """
    from training.data.sources import real_strips, virtual_strips
    from training.data.strips import load_strips

    sets: dict[str, tuple[Strips, Strips]] = {}
    if run is not None:
        result = sorted(run.glob("strips_*.npz"))
        if not result:
            raise ValueError(f"{run} holds no strips_*.npz; expected the folder of a run; make one with train vae")
        for path in result:
            strips, name = load_strips(path), path.stem.removeprefix("strips_").split("_")[0]
            most = size.real if name == "real" else size.virtual
            sets[name] = _some(strips.of("train"), size.learned), _some(strips.where(strips.split != "train"), most)
    if data is not None and "real" not in sets:
        strips = real_strips(data, size.learned)
        sets["real"] = _some(strips.of("train"), size.learned), _some(strips.where(strips.split != "train"), size.real)
    if run is None:
        learned = virtual_strips(size.learned, STUDY_SEED + 1)
        sets["virtual"] = learned, virtual_strips(size.virtual, STUDY_SEED, rare=0.0)
        sets["rare"] = learned, virtual_strips(size.rare, STUDY_SEED, rare=1.0)
    return {name: pair for name, pair in sets.items() if len(pair[0]) and len(pair[1])}


STUDY_SEED = 10_000  # of virtual people that trainings, with seeds below it, do not meet


def _some(strips: Strips, most: int) -> Strips:
    """At most so many, evenly chosen."""
    return strips.where(np.unique(np.linspace(0, len(strips) - 1, min(most, len(strips))).astype(int)))


def judge(vae: VAE, learned: Strips, held_out: Strips, seed: int = 0) -> dict[str, Any]:
    """The metrics on ``held_out``; the trivial codes are fitted to ``learned``."""
    signal, record = held_out.signal.astype(np.float32), held_out.record
    decoded = decode_all(vae, signal)
    errors = {
        name: strip_error(code(signal), signal) for name, code in baselines(learned, vae.config.latent_channels).items()
    }
    error = strip_error(decoded, signal)
    median = estimate(lambda rows: float(np.median(error[rows])), record)
    metrics: dict[str, Any] = {
        "mae_mv": metric(
            estimate(mean_of(error), record), baselines={name: float(other.mean()) for name, other in errors.items()}
        ),
        "mae_mv_median_strip": metric(median),
        "mae_mv_one_lead_missing": metric(estimate(mean_of(missing_lead_error(vae, signal)), record)),
    }
    noise = np.random.default_rng(seed).standard_normal(signal.shape, dtype=np.float32)
    before, after = intervals_of(signal), intervals_of(decoded)
    shaken = intervals_of(signal + NOISE_MV * noise)
    for name in MEASURED:
        metrics |= interval_change(before, after, shaken, name, record)
    far = np.abs(after.qtcf_ms - before.qtcf_ms) > FAR_MS
    far_by_noise = np.abs(shaken.qtcf_ms - before.qtcf_ms) > FAR_MS
    metrics["qtcf_moved_over_40_ms"] = metric(
        estimate(mean_of(far.astype(float)), record), baselines={"noise of 10 uV": float(far_by_noise.mean())}
    )
    return metrics


def interval_change(
    before: Intervals, after: Intervals, shaken: Intervals, name: str, record: np.ndarray
) -> dict[str, Any]:
    """Mean, SD and median absolute change of one interval; how often a side could not be measured; beside them the same
    for strips that were only ``shaken``.
    """
    first, second = getattr(before, name), getattr(after, name)
    change, jitter = second - first, getattr(shaken, name) - first
    counts: dict[str, Any] = {
        "n": int(np.isfinite(change).sum()),
        "n_failed_before": int(np.isnan(first).sum()),
        "n_failed_only_after": int((np.isnan(second) & ~np.isnan(first)).sum()),
    }
    statistics: dict[str, Callable[[np.ndarray], Callable[[np.ndarray], float]]] = {
        f"change_{name}": mean_of,
        f"change_{name}_sd": _sd_of,
        f"change_{name}_median_absolute": _median_absolute_of,
    }
    every = np.arange(len(record))
    return {
        key: metric(
            estimate(statistic(change), record), baselines={"noise of 10 uV": statistic(jitter)(every)}, **counts
        )
        for key, statistic in statistics.items()
    }


def _sd_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    def statistic(rows: np.ndarray) -> float:
        finite = values[rows][np.isfinite(values[rows])]
        return float(finite.std(ddof=1)) if len(finite) > 1 else np.nan

    return statistic


def _median_absolute_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    def statistic(rows: np.ndarray) -> float:
        finite = values[rows][np.isfinite(values[rows])]
        return float(np.median(np.abs(finite))) if len(finite) else np.nan

    return statistic


def gallery_rows(vae: VAE, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A row per case of the virtual patient's gallery: error, and the intervals before the codec and behind it."""
    signal, names = gallery_strips(names)
    decoded = decode_all(vae, signal)
    before, after = intervals_of(signal), intervals_of(decoded)
    error = strip_error(decoded, signal)
    size = np.abs(signal - np.median(signal, axis=-1, keepdims=True)).mean(axis=(1, 2))
    rows = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"case": name, "mae_mv": float(error[i]), "mean_deflection_mv": float(size[i])}
        for what in ("pr_ms", "qrs_ms", "qt_ms"):
            first, second = float(getattr(before, what)[i]), float(getattr(after, what)[i])
            row |= {what: first, f"{what}_behind": second}
        rows.append(row)
    return rows


def gallery_strips(names: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """The gallery's cases as strips ``(N, 8, 1024)`` [mV] on the model grid, and their names."""
    from ecg_gym.core import independent_from_leads
    from ecg_gym.virtual_patient.gallery import CASES, RATE_HZ, example
    from ecg_gym.waveform import to_model_grid

    cases = list(CASES if names is None else names)
    leads = [to_model_grid(ECG(example(name)[0], RATE_HZ)).signal.reshape(12, MODEL_SAMPLES) for name in cases]
    return independent_from_leads(np.stack(leads)).astype(np.float32), cases


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


def baselines(train: Strips, channels: int) -> dict[str, Code]:
    """Trivial codes of as many numbers as ``channels`` latent channels.

    Nothing at all, a low-pass per lead, one over three lead components, PCA of patches.
    """
    signal = train.signal[:: max(1, len(train) // 1000)].astype(np.float32)
    numbers = channels * LATENT_LENGTH
    patch_axes = _principal(_patches(signal), channels)
    lead_axes = _principal(signal.swapaxes(1, 2).reshape(-1, len(INDEPENDENT_LEADS)), 3)
    return {
        "flat line": np.zeros_like,
        f"DCT, {numbers // len(INDEPENDENT_LEADS)} per lead": lambda x: low_pass(x, numbers // len(INDEPENDENT_LEADS)),
        f"3 lead components, DCT of {min(numbers // 3, MODEL_SAMPLES)} each": lambda x: np.einsum(
            "lk,nkt->nlt", lead_axes, low_pass(np.einsum("lk,nlt->nkt", lead_axes, x), numbers // 3)
        ),
        f"PCA of 78 ms patches, {channels} each": lambda x: _unpatch(_patches(x) @ patch_axes @ patch_axes.T, len(x)),
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


def figure(vae: VAE, sets: Mapping[str, tuple[Strips, Strips]], n: int = 20, seed: int = 0) -> Figure:
    """``n`` strips drawn at random from the held-out sets, lead II and V3: as they are (black), as decoded (red)."""
    rng, parts, names = np.random.default_rng(seed), [], []
    for i, (kind, (_, held_out)) in enumerate(sets.items()):
        take = rng.permutation(len(held_out))[: (n + i) // len(sets)]
        parts.append(held_out.signal[take].astype(np.float32))
        names += [f"{kind} {held_out.record[row]}" for row in take]
    return draw(vae, np.concatenate(parts), names)


def draw(vae: VAE, signal: np.ndarray, names: Sequence[str], leads: tuple[str, str] = ("II", "V3")) -> Figure:
    """Strips ``(N, 8, 1024)`` [mV], two leads each, as they are (black) and as decoded (red)."""
    from matplotlib.figure import Figure

    decoded = decode_all(vae, signal)
    seconds = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ
    picture = Figure(figsize=(22, 1.5 * len(signal)), layout="constrained")
    axes = picture.subplots(len(signal), 2, sharex=True, squeeze=False)
    for row, pair in enumerate(axes):
        for axis, lead in zip(pair, leads):
            index = INDEPENDENT_LEADS.index(lead)
            axis.plot(seconds, signal[row, index], "k", lw=0.8)
            axis.plot(seconds, decoded[row, index], "r", lw=0.8)
            axis.set_title(f"{names[row]}  {lead} [mV]", fontsize=7, pad=1)
    return picture


def _principal(rows: np.ndarray, keep: int) -> np.ndarray:
    """The ``keep`` leading axes ``(D, keep)`` of rows ``(N, D)``, not centred: zero is the isoelectric line."""
    return np.linalg.eigh(rows.T @ rows)[1][:, -keep:]


def _patches(signal: np.ndarray) -> np.ndarray:
    n, leads, _ = signal.shape
    return signal.reshape(n, leads, LATENT_LENGTH, PATCH).swapaxes(1, 2).reshape(-1, leads * PATCH)


def _unpatch(patches: np.ndarray, n: int) -> np.ndarray:
    leads = len(INDEPENDENT_LEADS)
    return patches.reshape(n, LATENT_LENGTH, leads, PATCH).swapaxes(1, 2).reshape(n, leads, MODEL_SAMPLES)
