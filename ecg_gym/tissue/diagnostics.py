"""What is wrong with a fit, in numbers that an agent may read: misfit by phase, timing errors, where they grow.

Computed from train and validation protocols and what was observed there, never from the truth. A number that the kind
of observation cannot give is 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue.model import Model
from ecg_gym.tissue.recording import DataSet, Pacing
from ecg_gym.tissue.timing import crossings, smooth

DIAGNOSTICS = (
    "upstroke_error", "plateau_error", "repolarisation_error", "rest_error",  # mean |du| in that phase of the recording
    "activation_error_ms", "apd_error_ms", "second_beat_error_ms",  # mean absolute errors
    "missed_fraction",  # observed beats that the model lacks
    "smoothness_ms",  # mean |difference of the activation time from the mean of the neighbours| of the model
    "distance_correlation",  # of the timing error with the distance from the pacing site: the diffusion is wrong
    "coupling_correlation",  # of the second beat's timing error with the coupling interval: the recovery is wrong
    "field_roughness",  # root mean square step of the log conductance between neighbours; 0 without a field
)  # fmt: skip


def diagnose(model: Model, u: Tensor, datasets: Sequence[DataSet], protocols: Sequence[int]) -> list[dict[str, float]]:
    """One dict of ``DIAGNOSTICS`` per data set, for ``u (T, N, B, S)`` on ``protocols``."""
    out = []
    roughness = _roughness(model)
    for s, data in enumerate(datasets):
        mine = u[..., s].nan_to_num(0.0)
        notes = dict.fromkeys(DIAGNOSTICS, 0.0)
        notes["field_roughness"] = float(roughness[s])
        times = crossings(mine, data.sample_ms, 2)  # (2, 2, N, B)
        notes["smoothness_ms"] = _smoothness(data, times[0, 0])
        reference = observed_times(data, protocols)
        if data.kind in ("voltage", "quarter"):
            notes |= _phases(mine, data, protocols)
        if reference is not None:
            notes |= _timing(times, reference, data, protocols)
        out.append({name: float(np.nan_to_num(notes[name])) for name in DIAGNOSTICS})
    return out


def observed_times(data: DataSet, protocols: Sequence[int]) -> Tensor | None:
    """``(2, 2, N, B)`` observed times [ms], NaN on nodes that were not observed; None for electrodes."""
    if data.kind == "electrodes":
        return None
    if data.kind == "times":
        return torch.as_tensor(data.values[list(protocols)].transpose(2, 3, 1, 0).copy(), dtype=torch.float32)
    voltage = torch.as_tensor(data.values[list(protocols)].transpose(1, 2, 0).copy(), dtype=torch.float32)
    out = torch.full((2, 2, len(data.graph), len(protocols)), float("nan"))
    out[:, :, data.observed] = crossings(smooth(voltage), data.sample_ms, 2)
    return out


def _phases(u: Tensor, data: DataSet, protocols: Sequence[int]) -> dict[str, float]:
    voltage = torch.as_tensor(data.values[list(protocols)].transpose(1, 2, 0).copy(), dtype=torch.float32)
    gap, level = (u[:, data.observed] - voltage).abs(), smooth(voltage)
    slope = torch.cat([torch.zeros_like(level[:1]), level[1:] - level[:-1]]) / data.sample_ms
    upstroke = slope > 0.03
    phases = {
        "upstroke": upstroke, "plateau": ~upstroke & (level > 0.7), "rest": ~upstroke & (level <= 0.15),
        "repolarisation": ~upstroke & (level > 0.15) & (level <= 0.7),
    }  # fmt: skip
    return {f"{name}_error": float(gap[mask].mean()) if bool(mask.any()) else 0.0 for name, mask in phases.items()}


def _timing(times: Tensor, reference: Tensor, data: DataSet, protocols: Sequence[int]) -> dict[str, float]:
    gap = times - reference
    duration = (times[:, 1] - times[:, 0]) - (reference[:, 1] - reference[:, 0])
    due = ~reference[:, 0].isnan()
    site = torch.as_tensor(_pacing_distance(data, protocols), dtype=torch.float32)  # (N, B)
    coupling = torch.tensor(
        [[p.onset_ms[1] - p.onset_ms[0] if len(p.onset_ms) > 1 else 0.0 for p in _pick(data, protocols)]]
    )
    return {
        "activation_error_ms": float(gap[0, 0].abs().nanmean()),
        "apd_error_ms": float(duration.abs().nanmean()),
        "second_beat_error_ms": float(gap[1, 0].abs().nanmean()),
        "missed_fraction": float((times[:, 0].isnan() & due).sum() / due.sum().clamp(min=1)),
        "distance_correlation": _correlation(gap[0, 0], site),
        "coupling_correlation": _correlation(gap[1, 0], coupling.expand_as(gap[1, 0])),
    }


def _pick(data: DataSet, protocols: Sequence[int]) -> list[Pacing]:
    return [data.pacing[k] for k in protocols]


def _pacing_distance(data: DataSet, protocols: Sequence[int]) -> np.ndarray:
    """``(N, B)`` distance [mm] from the centre of the first stimulus."""
    centres = [data.graph.position[list(p.nodes[0])].mean(axis=0) for p in _pick(data, protocols)]
    return np.stack([np.linalg.norm(data.graph.position - c, axis=1) for c in centres], axis=1)


def _correlation(a: Tensor, b: Tensor) -> float:
    keep = ~a.isnan() & ~b.isnan()
    a, b = a[keep] - a[keep].mean(), b[keep] - b[keep].mean()
    scale = float(a.norm() * b.norm())
    return float((a * b).sum()) / scale if scale > 1e-9 else 0.0


def _smoothness(data: DataSet, activation: Tensor) -> float:
    i, j = (torch.as_tensor(np.ascontiguousarray(x)) for x in data.graph.edges.T)
    has_time = (~activation.isnan()).float()
    value, n = activation.nan_to_num(0.0), torch.zeros_like(activation)
    total = torch.zeros_like(activation)
    for a, b in ((i, j), (j, i)):
        total.index_add_(0, a, value[b])
        n.index_add_(0, a, has_time[b])
    return float(
        torch.where(activation.isnan() | (n == 0), torch.nan, (value - total / n.clamp(min=1)).abs()).nanmean()
    )


def _roughness(model: Model) -> Tensor:
    if model.spec.diffusion not in ("spline", "nodes"):
        return torch.zeros(model.rows)
    field = model.parameters["diffusion.field"].detach().T
    if model.spec.diffusion == "spline":
        field = model.graph.basis(model.spec.width) @ field
    i, j = model.graph.ends
    return ((field[i] - field[j]) ** 2).mean(0).sqrt()
