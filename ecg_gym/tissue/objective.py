"""How far simulated voltages are from what was observed, for the four kinds of observation. One number per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue.recording import THRESHOLD, DataSet
from ecg_gym.tissue.timing import crossings

TIME_UNIT_MS = 10.0  # a timing error of this size counts as 1
MISSED = 9.0  # what a beat that the model lacks counts, in squared time units
SOFT_SLOPE = 20.0  # of the soft activity that gives missed beats a gradient
SOFT_WEIGHT = 0.3


@dataclass(frozen=True, eq=False)
class Target:
    """The observations of S data sets on B protocols, as tensors."""

    kind: str
    sample_ms: float
    values: Tensor  # (T, N, S, B) voltage; (beats, 2, N, S, B) times; (T, M, S, B) electrodes
    mask: Tensor  # (N, S, 1) observed nodes; (M, N, S) lead field; empty for times
    scale: Tensor  # (S,) what a squared error is divided by
    samples: int  # T

    @classmethod
    def of(cls, datasets: Sequence[DataSet], protocols: Sequence[int], dtype: torch.dtype = torch.float32) -> Target:
        """The chosen protocols of data sets with one ``batch_key``."""
        first, n = datasets[0], len(datasets[0].graph)
        picked = np.stack([d.values[list(protocols)] for d in datasets])  # (S, B, ...)
        scale = np.ones(len(datasets))
        if first.kind == "times":
            values, mask = picked.transpose(3, 4, 2, 0, 1), np.zeros(0)  # (S, B, N, beats, 2)
        elif first.kind == "electrodes":
            values, mask = picked.transpose(2, 3, 0, 1), np.stack([d.observed for d in datasets], axis=-1)
            scale = picked.var(axis=(1, 2, 3))
        else:
            values = np.zeros((first.samples, n, len(datasets), len(protocols)))
            mask = np.zeros((n, len(datasets), 1))
            for s, d in enumerate(datasets):
                values[:, d.observed, s] = picked[s].transpose(1, 2, 0)
                mask[d.observed, s] = 1.0
        return cls(
            first.kind,
            first.sample_ms,
            *(torch.as_tensor(x.copy(), dtype=dtype) for x in (values, mask, scale)),
            first.samples,
        )

    def rows(self, index: Tensor) -> Target:
        """The same for chosen data sets."""
        axis = -2
        mask = self.mask
        if mask.numel():
            mask = mask.index_select(-1 if self.kind == "electrodes" else 1, index)
        return Target(
            self.kind, self.sample_ms, self.values.index_select(axis, index), mask, self.scale[index], self.samples
        )

    def errors(self, u: Tensor) -> Tensor:
        """``(S,)`` mean squared error of ``u (T', N, S, B)``, which may end before the recording does."""
        if self.kind == "times":
            return self._time_errors(u)
        return self.squares(u).mean((0, 1, 3)) if self.kind == "electrodes" else self._voltage_errors(u)

    def _voltage_errors(self, u: Tensor) -> Tensor:
        square = (u - self.values[: len(u)]) ** 2 * self.mask
        return square.sum((0, 1, 3)) / (self.mask.sum((0, 2)) * u.shape[0] * u.shape[3])

    def squares(self, u: Tensor) -> Tensor:
        """``(T', M, S, B)`` squared differences, scaled, of voltages or potentials."""
        if self.kind == "electrodes":
            seen = torch.einsum("mns,tnsb->tmsb", self.mask, u)
            return (seen - self.values[: len(u)]) ** 2 / self.scale[:, None]
        return (u - self.values[: len(u)]) ** 2 * self.mask

    def _time_errors(self, u: Tensor) -> Tensor:
        """Mean over the observed times: squared error in units of 10 ms (capped), plus a soft term for missed beats."""
        horizon = len(u) * self.sample_ms
        model, seen = crossings(u, self.sample_ms, len(self.values)), self.values
        due = ~seen.isnan() & (seen < horizon - 15.0)
        both = due & ~model.isnan()
        gap = torch.where(both, model.nan_to_num() - seen.nan_to_num(), torch.zeros_like(seen)) / TIME_UNIT_MS
        capped = torch.where(gap.abs() < 3, gap**2, 6 * gap.abs() - 9)  # quadratic, then linear
        error = torch.where(both, capped, torch.full_like(capped, MISSED)) * due
        count = due.sum((0, 1, 2, 4)).clamp(min=1)
        return error.sum((0, 1, 2, 4)) / count + SOFT_WEIGHT * self._soft(u)

    def _soft(self, u: Tensor) -> Tensor:
        t = self.sample_ms * torch.arange(1, len(u) + 1, dtype=u.dtype)[:, None, None, None]
        active = torch.zeros_like(u)
        for up, down in self.values:
            started = ((t - up.nan_to_num(1e9)) / self.sample_ms + 0.5).clamp(0, 1)
            ended = ((t - down.nan_to_num(1e9)) / self.sample_ms + 0.5).clamp(0, 1)
            active = active + started - ended
        return ((torch.sigmoid(SOFT_SLOPE * (u - THRESHOLD)) - active) ** 2).mean((0, 1, 3))
