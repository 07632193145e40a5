"""How long action potentials last: over the heart, and with the rate."""

from __future__ import annotations

import numpy as np

from ecg_gym.virtual_patient.anatomy import heart_table, ventricles


def apd_pattern(activation_ms: np.ndarray) -> np.ndarray:
    """``(N,)`` [ms], zero mean: where action potentials are longer or shorter than on average.

    A linear field of place and of activation time: what fires first stays up longest, which makes T upright.
    """
    tissue, table = ventricles(), heart_table()["apd_field_ms"]
    late = (activation_ms - activation_ms.mean()) / table["late_scale_ms"]
    side = np.where(tissue.right, -1.0, 1.0)
    sine, cosine = np.sin(tissue.phi), np.cos(tissue.phi)
    basis = np.stack([tissue.z - 0.5, 0.5 - tissue.layer, side, sine, cosine, -late, tissue.z**2])
    pattern = np.asarray(table["coef"]) @ basis
    return pattern - pattern.mean()


def rate_factor(rr_s: np.ndarray, memory_s: np.ndarray) -> np.ndarray:
    """Factor on the mean APD: (0.35 RR_previous + 0.65 RR_remembered)^0.45 [s]; 1 at 60/min.

    With the exponent 0.45 QT follows RR^0.33 (Fridericia) and J-Tpeak RR^0.57, as in the ECGRDVQ table (RR^0.58).
    """
    law = heart_table()["rate_law"]
    return (law["previous"] * rr_s + (1 - law["previous"]) * memory_s) ** law["exponent"]
