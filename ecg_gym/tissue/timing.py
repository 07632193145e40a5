"""When a node is activated and when it repolarises: crossings of a threshold, differentiable between samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ecg_gym.tissue.recording import THRESHOLD


def crossings(u: Tensor, sample_ms: float, beats: int = 2, threshold: float = THRESHOLD) -> Tensor:
    """``(beats, 2, ...)`` times [ms] of the upward and downward crossings of ``u (T, ...)``; NaN where there is none.

    Sample k is at ``(k + 1) * sample_ms``, u is 0 at time 0, and a crossing lies on the line between two samples.
    """
    before = torch.cat([torch.zeros_like(u[:1]), u[:-1]])
    k = torch.arange(len(u), dtype=u.dtype).reshape(-1, *[1] * (u.dim() - 1))
    rise = u - before
    safe = torch.where(rise.abs() < 1e-6, 1e-6, rise)
    when = sample_ms * (k + ((threshold - before) / safe).clamp(0, 1))
    up = (before <= threshold) & (u > threshold)
    down = (before > threshold) & (u <= threshold)
    number = torch.cumsum(up, 0)
    out = []
    for beat in range(1, beats + 1):
        for mark in (up & (number == beat), down & (number == beat)):
            time = torch.where(mark, when, 0.0).sum(0)
            out.append(torch.where(mark.any(0), time, float("nan")))
    return torch.stack(out).reshape(beats, 2, *u.shape[1:])


def smooth(u: Tensor, samples: int = 5) -> Tensor:
    """A running mean of ``u (T, ...)`` over an odd number of samples, for crossings of noisy recordings."""
    half = samples // 2
    padded = torch.cat([u[:1].expand(half, *u.shape[1:]), u, u[-1:].expand(half, *u.shape[1:])])
    total = torch.cat([torch.zeros_like(padded[:1]), torch.cumsum(padded, 0)])
    return (total[samples:] - total[:-samples]) / samples
