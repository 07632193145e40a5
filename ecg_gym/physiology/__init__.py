"""McSharry's five-wave model of the ECG: the equation, what treatment does to it, and this patient's parameters."""

from ecg_gym.physiology.epk import Anchor, epk_trace, epk_traces
from ecg_gym.physiology.fitting import Fit, fit
from ecg_gym.physiology.mcsharry import WAVES, Waves, intervals_ms, solve_exact, solve_rk4, textbook
from ecg_gym.physiology.modulation import apply

__all__ = [
    "WAVES",
    "Anchor",
    "Fit",
    "Waves",
    "apply",
    "epk_trace",
    "epk_traces",
    "fit",
    "intervals_ms",
    "solve_exact",
    "solve_rk4",
    "textbook",
]
