"""The Gymnasium environment: choose drugs, see the ECG afterwards. Research only, never bedside."""

from ecg_gym.envs.env import ECGInterventionEnv
from ecg_gym.envs.episode import Transition
from ecg_gym.envs.observability import SeenStrip, Tier, load_tiers
from ecg_gym.envs.reward import RiskReward
from ecg_gym.envs.scenarios import Scenario, load_scenarios
from ecg_gym.envs.vector import ECGInterventionVectorEnv

__all__ = [
    "ECGInterventionEnv",
    "ECGInterventionVectorEnv",
    "RiskReward",
    "Scenario",
    "SeenStrip",
    "Tier",
    "Transition",
    "load_scenarios",
    "load_tiers",
]
