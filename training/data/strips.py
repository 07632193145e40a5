"""Ten-second strips to train the codec on: real records and virtual patients, on the model grid, cached in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_gym.core import INDEPENDENT_LEADS, MODEL_RATE_HZ, MODEL_SAMPLES
from ecg_gym.io import write_npz

MAX_PEAKS = 40  # 240 beats a minute for 10 s; unused places hold -1
ARRAYS = ("signal", "peaks", "record", "split")
_SEAM = 20  # samples over which a rolled strip's two ends are cross-faded
_ROWS = np.arange(len(INDEPENDENT_LEADS))


@dataclass(frozen=True)
class Strips:
    """``N`` strips of the 8 independent leads with what is known about where they came from."""

    signal: np.ndarray  # (N, 8, 1024) float16 [mV]
    peaks: np.ndarray  # (N, MAX_PEAKS) int16, samples; -1 where there is none
    record: np.ndarray  # (N,) str: "ptbxl/00123", "virtual/42"
    split: np.ndarray  # (N,) str: "train", "val", "test"
    sources: tuple[str, ...] = ()  # citation and licence, one per source

    def __len__(self) -> int:
        return len(self.signal)

    def where(self, rows: np.ndarray) -> Strips:
        """The chosen rows (a boolean mask or indices)."""
        return Strips(self.signal[rows], self.peaks[rows], self.record[rows], self.split[rows], self.sources)

    def of(self, split: str) -> Strips:
        """The strips of one split."""
        return self.where(self.split == split)

    def provenance(self) -> list[Mapping[str, object]]:
        """JSON for the checkpoint: how many strips, where from, under which licence, and the hash of the samples."""
        digest = hashlib.sha256(self.signal.tobytes()).hexdigest()
        return [{"strips": len(self), "sources": list(self.sources), "sha256_of_samples": digest}] if len(self) else []


def concatenate(parts: Sequence[Strips]) -> Strips:
    """All strips in one set, each source named once."""
    signal, peaks, record, split = (np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS)
    return Strips(
        signal, peaks, record, split, tuple(dict.fromkeys(source for part in parts for source in part.sources))
    )


def save_strips(strips: Strips, path: Path) -> None:
    """Write a compressed npz, aside and renamed."""
    columns = {name: getattr(strips, name) for name in ARRAYS}
    write_npz(path, {**columns, "sources": np.array(strips.sources)}, compressed=True)


def load_strips(path: Path) -> Strips:
    """The strips of a cache file; ValueError when there is none."""
    if not path.is_file():
        raise ValueError(
            f"no strips at {path}; expected a file of save_strips; run `ecg-gym train vae` once with --data"
        )
    with np.load(path, allow_pickle=False) as file:
        return Strips(
            file["signal"],
            file["peaks"],
            file["record"],
            file["split"],
            tuple(str(source) for source in file["sources"]),
        )


def augment(strips: Strips, row: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One strip, changed as another recording of another chest might be: input, target, mask and peaks.

    Start and rate shift, the leads mix a little (heart position, electrodes), amplitude scales, the baseline wanders,
    leads fall off. Polarity stays. Noise is added to the input only: the codec may leave it out.
    """
    signal, peaks = strips.signal[row].astype(np.float32), strips.peaks[row].astype(np.int64)
    pace = 1.0 if rng.random() < 0.6 else float(rng.uniform(0.75, 1.3))
    signal, peaks = _replay(signal, peaks, float(rng.uniform(0, MODEL_SAMPLES)), pace)
    signal = _reposition(signal, rng)
    if rng.random() < 0.3:
        signal = signal + _wander(rng)
    noise_mv = 0.02 * rng.random() * (rng.random() < 0.3)
    mask = _recorded_leads(rng)
    noisy = signal + noise_mv * rng.standard_normal(signal.shape, dtype=np.float32)
    return {"input": noisy.astype(np.float32), "target": signal.astype(np.float32), "mask": mask, "peaks": peaks}


def replayed(signal: np.ndarray, peaks: np.ndarray, start: int) -> np.ndarray:
    """The strip ``(8, 1024)`` [mV] as an endless loop, begun at sample ``start``."""
    return _replay(signal, peaks, float(start), 1.0)[0]


def _replay(signal: np.ndarray, peaks: np.ndarray, start: float, pace: float) -> tuple[np.ndarray, np.ndarray]:
    """The strip as an endless loop, played from sample ``start`` at ``pace`` (above 1 is faster), 1024 samples long.

    At the seam the two ends are drawn together over 0.2 s, so that the loop closes.
    """
    gap = (signal[:, :1] - signal[:, -1:]) / 2
    ramp = np.zeros(MODEL_SAMPLES, np.float32)
    ramp[-_SEAM:] = np.linspace(0, 1, _SEAM)
    ramp[:_SEAM] -= np.linspace(1, 0, _SEAM)
    loop = signal + gap * ramp
    start = start if pace != 1.0 else float(int(start))  # no interpolation where none is needed: it dulls the QRS
    place = start + pace * np.arange(MODEL_SAMPLES)
    low = np.floor(place).astype(int)
    x = (place - low).astype(np.float32)
    weights = (  # cubic convolution, Keys 1981 doi:10.1109/TASSP.1981.1163711, a = -0.5
        ((-0.5 * x + 1) * x - 0.5) * x,
        (1.5 * x - 2.5) * x * x + 1,
        ((-1.5 * x + 2) * x + 0.5) * x,
        (0.5 * x - 0.5) * x * x,
    )
    played = sum(weight * loop[:, (low + tap) % MODEL_SAMPLES] for tap, weight in zip((-1, 0, 1, 2), weights))
    turns = np.arange(3)[:, None] * MODEL_SAMPLES
    positions = np.round((peaks[peaks >= 0] + turns - start) / pace).astype(np.int64).ravel()
    positions = positions[(positions >= 0) & (positions < MODEL_SAMPLES)][: len(peaks)]
    return played, np.pad(positions, (0, len(peaks) - len(positions)), constant_values=-1)


def _reposition(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mixing = np.eye(len(_ROWS)) + rng.normal(0, 0.06, (len(_ROWS), len(_ROWS)))
    gain = np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.08, (len(_ROWS), 1)))
    return (gain * (mixing @ signal)).astype(np.float32)


def _wander(rng: np.random.Generator) -> np.ndarray:
    """An offset of about 0.03 mV and a slow sine per lead, 0.05 to 0.4 Hz, up to 0.1 mV."""
    seconds = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ
    hz, phase = rng.uniform(0.05, 0.4), rng.uniform(0, 2 * np.pi, (len(_ROWS), 1))
    offset = rng.normal(0, 0.03, (len(_ROWS), 1))
    return offset + rng.uniform(0, 0.1, (len(_ROWS), 1)) * np.sin(2 * np.pi * hz * seconds + phase)


def _recorded_leads(rng: np.random.Generator) -> np.ndarray:
    """Which leads were recorded: all of them four times in five, else 1 to 6 are missing."""
    mask = np.ones(len(_ROWS), np.float32)
    if rng.random() < 0.2:
        mask[rng.choice(len(_ROWS), int(rng.integers(1, 7)), replace=False)] = 0
    return mask
