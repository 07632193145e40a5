"""McSharry's five-wave model of the ECG: the equation, what treatment does to it, and this patient's parameters."""

from ecg_gym.physiology.fitting import Fit, fit
from ecg_gym.physiology.mcsharry import WAVES, Waves, intervals_ms, solve_exact, solve_rk4, textbook
from ecg_gym.physiology.modulation import apply

__all__ = [
    "WAVES",
    "Fit",
    "Waves",
    "apply",
    "fit",
    "intervals_ms",
    "solve_exact",
    "solve_rk4",
    "textbook",
]
