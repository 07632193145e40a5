"""How far simulated voltages are from what was observed, for the four kinds of observation. One number per model."""

from __future__ import annotations

import math
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
    values: Tensor  # (T, N, B, S) voltage; (beats, 2, N, B, S) times; (T, M, B, S) electrodes
    mask: Tensor  # (N, 1, S) observed nodes; (M, N, S) lead field; empty for times
    scale: Tensor  # (S,) what a squared error is divided by
    samples: int  # T

    @classmethod
    def of(cls, datasets: Sequence[DataSet], protocols: Sequence[int], dtype: torch.dtype = torch.float32) -> Target:
        """The chosen protocols of data sets with one ``batch_key``."""
        first, n = datasets[0], len(datasets[0].graph)
        picked = np.stack([d.values[list(protocols)] for d in datasets])  # (S, B, ...)
        scale = np.ones(len(datasets))
        if first.kind == "times":
            values, mask = picked.transpose(3, 4, 2, 1, 0), np.zeros(0)  # (S, B, N, beats, 2)
        elif first.kind == "electrodes":
            values, mask = picked.transpose(2, 3, 1, 0), np.stack([d.observed for d in datasets], axis=-1)
            scale = picked.var(axis=(1, 2, 3))
        else:
            values = np.zeros((first.samples, n, len(protocols), len(datasets)))
            mask = np.zeros((n, 1, len(datasets)))
            for s, d in enumerate(datasets):
                values[..., s][:, d.observed] = picked[s].transpose(1, 2, 0)
                mask[d.observed, :, s] = 1.0
        tensors = [torch.as_tensor(x.copy(), dtype=dtype) for x in (values, mask, scale)]
        return cls(first.kind, first.sample_ms, tensors[0], tensors[1], tensors[2], first.samples)

    def rows(self, index: Tensor) -> Target:
        """The same for chosen data sets."""
        mask = self.mask[..., index] if self.mask.numel() else self.mask
        return Target(self.kind, self.sample_ms, self.values[..., index], mask, self.scale[index], self.samples)

    def errors(self, u: Tensor) -> Tensor:
        """``(S,)`` mean squared error of ``u (T', N, B, S)``, which may end before the recording does."""
        if self.kind == "times":
            return self._time_errors(u)
        return self.squares(u).mean((0, 1, 2)) if self.kind == "electrodes" else self._voltage_errors(u)

    def residuals(self, u: Tensor) -> Tensor:
        """``(S, R)`` scaled differences over the whole recording whose squares sum to :meth:`errors`."""
        s = u.shape[3]
        if self.kind == "times":
            gap, count = self._gaps(u)
            signed = torch.where(gap.abs() < 3, gap, torch.sign(gap) * (6 * gap.abs() - 9).clamp(min=1e-6).sqrt())
            soft = math.sqrt(SOFT_WEIGHT / (u.numel() / s)) * self._soft_gap(u)
            hard = signed / count.sqrt()
            return torch.cat([hard.movedim(4, 0).reshape(s, -1), soft.movedim(3, 0).reshape(s, -1)], 1)
        if self.kind == "electrodes":
            signal = torch.einsum("mns,tnbs->tmbs", self.mask, u)
            gap = (signal - self.values[: len(u)]) / self.scale.sqrt()
            return gap.movedim(3, 0).reshape(s, -1) / math.sqrt(gap.numel() / s)
        gap = (u - self.values[: len(u)]) * self.mask
        size = (self.mask.sum((0, 1)) * (u.shape[0] * u.shape[2])).sqrt()
        return gap.movedim(3, 0).reshape(s, -1) / size[:, None]

    def slopes(self, u: Tensor, du: Tensor) -> Tensor:
        """``(S, R, K)`` derivatives of :meth:`residuals` at ``u (T', N, B, S)``, for ``du (T', N, B, K, S)``."""
        k, s = du.shape[3:]
        if self.kind == "times":
            return self._time_slopes(u, du)
        if self.kind == "electrodes":
            signal = torch.stack([torch.einsum("mn,tnbk->tmbk", self.mask[..., j], du[..., j]) for j in range(s)])
            return signal.reshape(s, -1, k) / (self.scale * (signal[0].numel() / k)).sqrt()[:, None, None]
        size = (self.mask.sum((0, 1)) * (du.shape[0] * du.shape[2])).sqrt()
        return (du * (self.mask / size)[:, :, None]).movedim(4, 0).reshape(s, -1, k)

    def _time_slopes(self, u: Tensor, du: Tensor) -> Tensor:
        """A crossing moves by what u gains there over how fast u goes through the threshold; the soft term with du."""
        k, s = du.shape[3:]
        gap, count = self._gaps(u)
        when = crossings(u, self.sample_ms, len(self.values)) / self.sample_ms  # (beats, 2, N, B, S)
        both = (gap != 0) & ~when.isnan()
        place = when.nan_to_num(0.0)
        after = place.long().clamp(max=len(u) - 1)
        before, part = (after - 1).clamp(min=0), (place - after).clamp(0, 1)
        n, b = (torch.arange(size).reshape(shape) for size, shape in zip(u.shape[1:3], ((-1, 1, 1), (-1, 1))))
        row = torch.arange(s)
        inside = (after > 0).to(u.dtype)  # u begins at 0, whatever the parameters
        rise = u[after, n, b, row] - inside * u[before, n, b, row]
        rise = torch.where(rise.abs() < 1e-6, torch.full_like(rise, 1e-6), rise)
        own = du.movedim(3, 4)  # (T, N, B, S, K)
        gain = ((1 - part) * inside)[..., None] * own[before, n, b, row] + part[..., None] * own[after, n, b, row]
        bend = torch.where(gap.abs() < 3, 1.0, 3.0 / (6 * gap.abs() - 9).clamp(min=1e-6).sqrt())
        factor = torch.where(both, -bend * self.sample_ms / (TIME_UNIT_MS * rise), 0.0) / count.sqrt()
        active = torch.sigmoid(SOFT_SLOPE * (u - THRESHOLD))
        steep = math.sqrt(SOFT_WEIGHT / (u.numel() / s)) * SOFT_SLOPE * active * (1 - active)
        hard = (factor[..., None] * gain).movedim(4, 0).reshape(s, -1, k)
        return torch.cat([hard, (steep[..., None, :] * du).movedim(4, 0).reshape(s, -1, k)], 1)

    def _voltage_errors(self, u: Tensor) -> Tensor:
        square = (u - self.values[: len(u)]) ** 2 * self.mask
        return square.sum((0, 1, 2)) / (self.mask.sum((0, 1)) * u.shape[0] * u.shape[2])

    def squares(self, u: Tensor) -> Tensor:
        """``(T', M, B, S)`` squared differences, scaled, of voltages or potentials."""
        if self.kind == "electrodes":
            signal = torch.einsum("mns,tnbs->tmbs", self.mask, u)
            return (signal - self.values[: len(u)]) ** 2 / self.scale
        return (u - self.values[: len(u)]) ** 2 * self.mask

    def _gaps(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """``(beats, 2, N, B, S)`` timing errors in units of 10 ms, sqrt(MISSED) for missed beats; ``(S,)`` how many."""
        horizon = len(u) * self.sample_ms
        model, reference = crossings(u, self.sample_ms, len(self.values)), self.values
        due = ~reference.isnan() & (reference < horizon - 15.0)
        both = due & ~model.isnan()
        gap = torch.where(both, (model - reference) / TIME_UNIT_MS, torch.zeros_like(reference))
        missed = (due & ~both).to(u.dtype) * math.sqrt(MISSED)
        return gap + missed, due.sum((0, 1, 2, 3)).clamp(min=1)

    def _time_errors(self, u: Tensor) -> Tensor:
        """Mean over the observed times: squared error in units of 10 ms, linear beyond 30 ms, plus a soft term."""
        gap, count = self._gaps(u)
        capped = torch.where(gap.abs() < 3, gap**2, 6 * gap.abs() - 9)
        return capped.sum((0, 1, 2, 3)) / count + SOFT_WEIGHT * (self._soft_gap(u) ** 2).mean((0, 1, 2))

    def _soft_gap(self, u: Tensor) -> Tensor:
        """``(T', N, B, S)`` soft activity of the model minus that by the observed times: it moves missing beats."""
        t = self.sample_ms * torch.arange(1, len(u) + 1, dtype=u.dtype)[:, None, None, None]
        active = torch.zeros_like(u)
        for up, down in self.values:
            started = ((t - up.nan_to_num(1e9)) / self.sample_ms + 0.5).clamp(0, 1)
            ended = ((t - down.nan_to_num(1e9)) / self.sample_ms + 0.5).clamp(0, 1)
            active = active + started - ended
        return torch.sigmoid(SOFT_SLOPE * (u - THRESHOLD)) - active
