"""How good a fit is on the held-out pacing protocol, against the noise-free truth. For judges, never for agents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ecg_gym.tissue.diagnostics import observed_times
from ecg_gym.tissue.fitting import Fit, model_of, run_protocols
from ecg_gym.tissue.recording import DataSet
from ecg_gym.tissue.timing import crossings

HELD_OUT = ("mae", "activation_ms", "apd_ms", "missed", "smoothness_ms")


def held_out_errors(fits: Sequence[Fit], datasets: Sequence[DataSet], batch_rows: int = 40) -> list[dict[str, float]]:
    """``HELD_OUT`` for each pair of a fit and its data set; the fits must share one spec, the data sets one graph.

    ``mae`` mean |u - truth| [1]; ``activation_ms``, ``apd_ms`` mean absolute errors [ms] of the beats in both;
    ``missed`` share of the truth's beats that the model lacks; ``smoothness_ms`` mean |deviation of the activation time
    from its neighbours' mean|, model minus truth [ms].
    """
    out: list[dict[str, float]] = []
    for k in range(0, len(fits), batch_rows):
        some, data = fits[k : k + batch_rows], datasets[k : k + batch_rows]
        u = run_protocols(model_of(some, data), data, data[0].held_out)
        out += [_errors(u[..., s], d) for s, d in enumerate(data)]
    return out


def _errors(u: torch.Tensor, data: DataSet) -> dict[str, float]:
    if data.truth is None:
        raise ValueError(f"data set {data.name!r} has no truth; expected a synthetic one; use Fit.validation_error")
    truth = torch.as_tensor(data.truth.u[list(data.held_out)]).permute(1, 2, 0)
    u = u.nan_to_num(0.0)
    reference, times = crossings(truth, data.sample_ms, 2), crossings(u, data.sample_ms, 2)
    due = ~reference[:, 0].isnan()
    duration = (times[:, 1] - times[:, 0]) - (reference[:, 1] - reference[:, 0])
    return {
        "mae": float((u - truth).abs().mean()),
        "activation_ms": float((times[:, 0] - reference[:, 0]).abs().nanmean()),
        "apd_ms": float(duration.abs().nanmean()),
        "missed": float((times[:, 0].isnan() & due).sum() / due.sum().clamp(min=1)),
        "smoothness_ms": roughness(data, times[0, 0]) - roughness(data, reference[0, 0]),
    }


def roughness(data: DataSet, activation: torch.Tensor) -> float:
    """Mean |deviation of an activation map ``(N, B)`` [ms] from the mean of a node's neighbours|, without NaN nodes."""
    has_time = (~activation.isnan()).numpy().astype(float)
    value = activation.nan_to_num(0.0).numpy()
    neighbours = abs(data.graph.incidence.T) @ abs(data.graph.incidence)
    neighbours.setdiag(0)
    count = neighbours @ has_time
    gap = np.abs(value - (neighbours @ value) / np.maximum(count, 1))
    keep = (has_time > 0) & (count > 0)
    return float(gap[keep].mean()) if keep.any() else float("nan")


__all__ = ["HELD_OUT", "held_out_errors", "observed_times", "roughness"]
