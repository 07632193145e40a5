"""Optical mapping: a video of fluorescence as recordings of normalised voltage on a grid.

Each pixel is divided by its own rest and plateau, so that u runs from 0 to 1. With potentiometric dyes of the styryl
family fluorescence falls when the tissue depolarises; ``inverted`` says so. Pixels whose upstroke does not stand out of
their noise are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecg_gym.datasets.ep.folder import load_numbers
from ecg_gym.datasets.ep.recording import EPRecording, SitePacing, as_pacing

LEAST_RATIO = 6.0  # of amplitude to the standard deviation of the noise
REST, PLATEAU = 10.0, 98.0  # [percentile] of a pixel over time
TRIANGLES_OF_A_CELL = ((0, 1, 3), (0, 3, 2))


def convert_optical(
    video: np.ndarray | Path | str,
    *,
    rate_hz: float,
    pixel_mm: float,
    binning: int = 1,
    inverted: bool = False,
    pacing: list[list[tuple[tuple[float, float], float]]] | None = None,
    pacing_radius_mm: float = 2.0,
) -> EPRecording:
    """A recording of kind ``voltage`` from ``(T, H, W)`` or ``(P, T, H, W)`` frames (or a ``.npy`` file of them).

    ``binning`` pixels are averaged in each direction. ``pacing`` gives, per protocol, ``((x_mm, y_mm), onset_ms)`` of
    each stimulus; sites within ``pacing_radius_mm`` are paced. ``ValueError`` for frames that are no video.
    """
    frames = _frames(video)
    if not pixel_mm > 0 or binning < 1:
        raise ValueError(
            f"pixel_mm is {pixel_mm} and binning {binning}; expected a length above 0 and at least 1; correct it"
        )
    p, t, h, w = frames.shape
    h, w = h // binning, w // binning
    if h < 2 or w < 2:
        raise ValueError(
            f"frames are {frames.shape[2:]} with binning {binning}; expected at least 2 x 2 after it; bin less"
        )
    binned = frames[:, :, : h * binning, : w * binning].reshape(p, t, h, binning, w, binning).mean(axis=(3, 5))
    u, good = _normalised(-binned if inverted else binned)
    if good.sum() < 3:
        raise ValueError(
            f"{int(good.sum())} pixels have an upstroke {LEAST_RATIO:g} times their noise; expected at least 3; check "
            "inverted=..., or bin more"
        )
    y, x = np.mgrid[:h, :w]
    step = pixel_mm * binning
    position = step * np.stack([x[good], y[good], np.zeros(int(good.sum()))], axis=1)
    return EPRecording(
        kind="voltage",
        position=position,
        rate_hz=rate_hz,
        signal=np.moveaxis(u[:, :, good], 1, 2).astype(np.float32),
        pacing=_pacing(pacing, position, max(pacing_radius_mm, 0.75 * step)) if pacing else (),
        triangles=_grid_triangles(good),
        surface="epicardium",
    )


def _frames(video: np.ndarray | Path | str) -> np.ndarray:
    if isinstance(video, Path | str):
        video = load_numbers(Path(video))
    if not isinstance(video, np.ndarray) or video.dtype.kind not in "fiu" or video.ndim not in (3, 4):
        raise ValueError(
            f"the video is {getattr(video, 'shape', type(video).__name__)}; expected (T, H, W) or (P, T, H, W) "
            "numbers; "
            "convert it"
        )
    frames = (video if video.ndim == 4 else video[None]).astype(float)
    if not np.isfinite(frames).all():
        raise ValueError(
            "the video has values that are not finite; expected counts; set them to a constant: those are left out"
        )
    if frames.shape[1] < min(frames.shape[2:]) // 2:
        raise ValueError(
            f"the video has {frames.shape[1]} frames of {frames.shape[2:]}; expected time first; move the last "
            "axis to the front"
        )
    return frames


def _normalised(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(P, T, H, W)``, 0 at rest and 1 at the plateau, and ``(H, W)`` bool: pixels good in every protocol."""
    rest, plateau = np.percentile(frames, (REST, PLATEAU), axis=1, keepdims=True)
    noise = np.median(np.abs(np.diff(frames, axis=1)), axis=1, keepdims=True) / 0.954  # of differences, robust
    amplitude = plateau - rest
    good = (amplitude > LEAST_RATIO * np.maximum(noise, 1e-12)).all(axis=(0, 1))
    u = (frames - rest) / np.where(amplitude > 0, amplitude, 1.0)
    return np.clip(u, -0.5, 1.5), good


def _grid_triangles(good: np.ndarray) -> np.ndarray:
    """Two triangles for every cell of the grid whose four corners are good."""
    number = np.full(good.shape, -1)
    number[good] = np.arange(good.sum())
    corners = np.stack([number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]], axis=-1).reshape(-1, 4)
    cells = corners[(corners >= 0).all(axis=1)]
    return np.concatenate([cells[:, list(three)] for three in TRIANGLES_OF_A_CELL])


def _pacing(
    rows: list[list[tuple[tuple[float, float], float]]], position: np.ndarray, radius_mm: float
) -> tuple[SitePacing, ...]:
    def near(spot: tuple[float, float]) -> list[int]:
        sites = np.flatnonzero(np.linalg.norm(position[:, :2] - np.asarray(spot), axis=1) <= radius_mm)
        if not len(sites):
            raise ValueError(
                f"no site lies within {radius_mm:g} mm of the stimulus at {spot}; expected one; check the place"
            )
        return [int(site) for site in sites]

    return as_pacing([[(near(spot), onset) for spot, onset in row] for row in rows])
