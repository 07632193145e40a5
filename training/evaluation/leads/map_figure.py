"""The figure of LEADS: activation on a pacing protocol that no fit has seen: truth, discovered, hybrid, neural.

python -m training.evaluation.leads.map_figure --truth ms --seed 1003 --out docs/leads_maps.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ecg_gym.tissue import DataSet, Fit, FitOptions, Spec, fit, hearts, held_out_errors
from ecg_gym.tissue.fitting import model_of, run_protocols
from ecg_gym.tissue.timing import crossings
from training.leads.maps import draw_maps, save_figure
from training.leads.table import read_table

HYBRID = Spec("ap", "spline", "uv")  # hand-made: one reaction for everybody, a smooth field, a residual network
NEURAL = Spec("neural", "flux_mlp")  # nothing of a cell in it


def discovered(data: DataSet, options: FitOptions) -> Fit:
    """The best structure of the shipped table for this heart, fitted again: the table keeps no parameters."""
    reaction, seed = data.name.split("-")[:2]
    case = next((case for case in read_table() if (case.truth, case.seed) == (reaction, int(seed))), None)
    if case is None:
        raise ValueError(f"the table has no heart {data.name}; expected one of its own; see read_table()")
    return fit([case.best().spec], [data], options)[0][0]


def maps_of(data: DataSet, fits: Mapping[str, Fit]) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """``(N,)`` [ms] of the first beat of the held-out protocol by title, the truth first; and each fit's errors."""
    assert data.truth is not None
    protocol = data.held_out[0]
    u = torch.as_tensor(data.truth.u[protocol])[:, :, None]
    maps = {"truth": crossings(u, data.sample_ms, 2)[0, 0, :, 0].numpy()}
    errors = {}
    for name, one in fits.items():
        (errors[name],) = held_out_errors([one], [data])
        u = run_protocols(model_of([one], [data]), [data], [protocol])[..., 0].nan_to_num(0.0)
        title = f"{name}: {one.spec.reaction}/{one.spec.diffusion}"
        title += "" if one.spec.residual == "none" else f"+{one.spec.residual}"
        title += f"\nactivation off by {errors[name]['activation_ms']:.1f} ms, u by {errors[name]['mae']:.3f}"
        maps[title] = crossings(u, data.sample_ms, 2)[0, 0, :, 0].numpy()
    return maps, errors


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", default="ms")
    parser.add_argument("--seed", type=int, default=1003)
    parser.add_argument("--baseline-effort", type=float, default=0.5, help="iterations of hybrid and neural, of usual")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    (data,) = hearts(arguments.truth, [arguments.seed])
    best = discovered(data, FitOptions())
    options = FitOptions(effort=arguments.baseline_effort)
    start = {(HYBRID, data.key): fit([Spec("ap", "spline")], [data], options)[0][0]}
    ((hybrid,),) = fit([HYBRID], [data], options, start)
    ((neural,),) = fit([NEURAL], [data], options)
    maps, errors = maps_of(data, {"discovered": best, "hybrid": hybrid, "neural": neural})
    save_figure(draw_maps(maps, data.graph.position), arguments.out)
    print(json.dumps(errors, indent=2))


if __name__ == "__main__":
    main()
