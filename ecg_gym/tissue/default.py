"""The packaged tissue: Mitchell-Schaeffer on both ventricles, fitted to the default heart's activation and APD maps.

``fit_to_maps`` does the same for any pair of maps. Conductances start at a power of the eikonal model's local speeds;
then a field of factors is corrected node by node, by how much longer the wave takes from the neighbours that fire
before than it should, and the knob of every node by how much its action potential is off.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ecg_gym.tissue.fitted import FittedTissue, knob_table, simulate_beat
from ecg_gym.tissue.graph import biventricular
from ecg_gym.tissue.reactions import reaction

FILE = Path(__file__).parents[1] / "assets" / "tissue.safetensors"
TIN_MS = 0.3  # the paper's; 0.5 is for sheets of 2 mm
SPEED_POWER = 2.5  # of the local speed in the conductance; 2 on a fine graph, more where fast and slow tissue touch
DIFFUSION = 0.56  # [mm2/ms] to begin with
ROUNDS = 6
LARGEST_LOG = 1.5  # of a node's factor on conductance


@cache
def default_tissue() -> FittedTissue:
    """The packaged tissue."""
    return FittedTissue.load(FILE)


def fit_default() -> FittedTissue:
    """The packaged tissue made anew from the default heart's maps."""
    from ecg_gym.virtual_patient.activation import ventricular_map
    from ecg_gym.virtual_patient.anatomy import heart_table
    from ecg_gym.virtual_patient.repolarisation import apd_pattern

    fire = ventricular_map("normal")
    return fit_to_maps(fire, heart_table()["repolarisation_knob"]["reference_apd_ms"] + apd_pattern(fire))


def fit_to_maps(fire_ms: np.ndarray, apd_ms: np.ndarray, rounds: int = ROUNDS) -> FittedTissue:
    """The tissue whose normal beat has about these firing times and durations ``(N,)`` [ms]; notes hold the errors."""
    from ecg_gym.virtual_patient.activation import edge_speeds
    from ecg_gym.virtual_patient.anatomy import ventricles

    graph, values = biventricular(), reaction("ms").nominal | {"tin": TIN_MS}
    knobs, lengths = knob_table("ms", tuple(sorted(values.items())))
    speed = edge_speeds(ventricles())
    base = graph.weight * (speed / speed.mean()) ** SPEED_POWER
    i, j = graph.edges.T
    scale, factor, target_ms = DIFFUSION, np.zeros(len(graph)), np.asarray(apd_ms, float)
    for turn in range(rounds):
        knob = np.exp(np.interp(target_ms, lengths, np.log(knobs)))
        tissue = FittedTissue("ms", values, knob, scale * base * np.exp((factor[i] + factor[j]) / 2))
        (fire,), (duration,) = simulate_beat(tissue, "normal", (1.0,))
        late = fire - fire.min() - fire_ms
        if turn < rounds - 1:
            factor = np.clip(factor + _correction(late, fire_ms), -LARGEST_LOG, LARGEST_LOG)
            factor -= factor.mean()
            scale *= float(np.ptp(fire) / np.ptp(fire_ms))
            target_ms = np.clip(target_ms + 0.8 * (apd_ms - duration), lengths[0], lengths[-1])
    notes = {
        "made by": "ecg_gym.tissue.default.fit_to_maps", "diffusion_mm2_per_ms": scale,
        "activation_error_ms": float(np.abs(late - late.mean()).mean()),
        "activation_correlation": float(np.corrcoef(fire, fire_ms)[0, 1]),
        "apd_error_ms": float(np.abs(duration - apd_ms).mean()),
    }  # fmt: skip
    return FittedTissue(tissue.reaction, values, tissue.knob, tissue.conductance, notes=notes)


def _correction(late_ms: np.ndarray, fire_ms: np.ndarray) -> np.ndarray:
    """``(N,)`` what to add to the log conductance: the share by which a node's last step of the wave takes too long."""
    graph = biventricular()
    i, j = graph.edges.T
    forward = fire_ms[i] < fire_ms[j]
    before, after = np.where(forward, i, j), np.where(forward, j, i)
    count = np.bincount(after, minlength=len(graph))

    def gain(x: np.ndarray) -> np.ndarray:
        mean = np.bincount(after, x[before], len(graph)) / np.maximum(count, 1)
        return np.where(count > 0, x - mean, 0.0)

    step = np.clip(gain(late_ms) / np.maximum(gain(fire_ms), 2.0), -0.5, 0.5)
    around = (abs(graph.incidence.T) @ abs(graph.incidence)).tocsr()
    around.setdiag(0)
    return 0.4 * (step + around @ step / np.asarray(around.sum(axis=1)).ravel())
