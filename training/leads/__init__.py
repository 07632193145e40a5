"""LEADS: agents that discover the structure of a patient's tissue model. Registers ``LEADS/Discovery-v0``."""

import gymnasium as gym

ID = "LEADS/Discovery-v0"

if ID not in gym.registry:
    gym.register(id=ID, entry_point="training.leads.env:DiscoveryEnv")
