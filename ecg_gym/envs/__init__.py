"""The Gymnasium environment: choose drugs, see the ECG afterwards. Research only, never bedside."""

from ecg_gym.envs.env import ECGInterventionEnv
from ecg_gym.envs.scenarios import Scenario, load_scenarios

__all__ = ["ECGInterventionEnv", "Scenario", "load_scenarios"]
