"""The ids that ``gymnasium.make`` knows once ecg_gym is imported. Loads nothing but Gymnasium."""

from __future__ import annotations

import gymnasium as gym

IDS = {"ECGIntervention-v0": "model", "ECGInterventionOracle-v0": "oracle"}  # id -> the world behind it
NAMESPACES = {"ECG": "model", "ECGOracle": "oracle"}  # of the ids of scenarios and tiers
SCENARIOS = {  # the ids of scenarios.yaml, here so that importing ecg_gym reads no table
    "healthy_volunteer": "HealthyVolunteer",
    "af_rapid_response": "AFRapidResponse",
    "preexcited_af": "PreexcitedAF",
    "svt": "SVT",
    "recurrent_vt": "RecurrentVT",
    "bradycardia": "Bradycardia",
    "av_block": "AVBlock",
    "hyperkalaemia": "Hyperkalaemia",
    "acquired_long_qt": "AcquiredLongQT",
    "heart_failure_on_digoxin": "HeartFailureOnDigoxin",
}
TIERS = {"clean": "-Clean", "variation": "", "noisy": "-Noisy", "missing": "-Missing", "delayed": "-Delayed"}


def register() -> None:
    """Make all ids known; a second call changes nothing."""
    for name, world in IDS.items():
        _register(name, {"world": world})
    for namespace, world in NAMESPACES.items():
        for scenario, camel in SCENARIOS.items():
            for tier, suffix in TIERS.items():
                words = {"world": world, "scenario": scenario}
                _register(f"{namespace}/{camel}{suffix}-v0", words if not suffix else {**words, "tier": tier})


def _register(name: str, words: dict[str, str]) -> None:
    if name not in gym.registry:
        gym.register(
            id=name,
            entry_point="ecg_gym.envs:ECGInterventionEnv",
            vector_entry_point="ecg_gym.envs:ECGInterventionVectorEnv",
            kwargs=words,
        )
