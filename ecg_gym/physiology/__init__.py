"""McSharry's five-wave model of the ECG: the equation, what treatment does to it, and this patient's parameters."""

from ecg_gym.physiology.ectopy import Ectopy, find_ectopy, overlay, recorded_places, with_episodes
from ecg_gym.physiology.epk import Anchor, epk_trace, epk_traces
from ecg_gym.physiology.fitting import Fit, fit
from ecg_gym.physiology.mcsharry import WAVES, Waves, intervals_ms, solve_exact, solve_rk4, textbook
from ecg_gym.physiology.multilead import TARGET_INTERVALS, LeadFit, anchor_traces, fit_leads, target_after
from ecg_gym.physiology.rr_series import beats_of, draw_beats, recorded_beats, recorded_rhythm, usual_sd_ms
from ecg_gym.physiology.wave_modulation import apply

__all__ = [
    "TARGET_INTERVALS",
    "WAVES",
    "Anchor",
    "Ectopy",
    "Fit",
    "LeadFit",
    "Waves",
    "anchor_traces",
    "apply",
    "beats_of",
    "draw_beats",
    "epk_trace",
    "epk_traces",
    "find_ectopy",
    "fit",
    "fit_leads",
    "intervals_ms",
    "overlay",
    "recorded_beats",
    "recorded_places",
    "recorded_rhythm",
    "solve_exact",
    "solve_rk4",
    "target_after",
    "textbook",
    "usual_sd_ms",
    "with_episodes",
]
