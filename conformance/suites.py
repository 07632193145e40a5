"""The table of checks: what runs where, and for how long at most."""

from __future__ import annotations

import re
from dataclasses import dataclass

from conformance.homes import HERE, LATEST, OLDEST, SETTLED, Home


@dataclass(frozen=True)
class Suite:
    """One row of the closing table."""

    name: str
    check: str  # module of conformance.checks
    home: Home
    words: tuple[str, ...] = ()  # of its command line
    minutes: float = 30.0  # it is stopped, and has failed, after these; far more than it takes on a quiet machine
    after: str = ""  # a suite whose files it reads

    @property
    def slug(self) -> str:
        """Its name as a file may be called."""
        return re.sub(r"\W+", "-", f"{self.name} {self.home.name}").lower()


SUITES = (
    Suite("Gymnasium check_env, check_environments_match", "gymnasium_checker", HERE, ("all",)),
    Suite("the same on Gymnasium 1.2", "gymnasium_checker", SETTLED),
    Suite("the same on Gymnasium 1.1, NumPy 2.0, no torch", "gymnasium_checker", OLDEST),
    Suite("Gymnasium's own environment tests", "gymnasium_upstream", HERE),
    Suite("Gymnasium's wrappers", "wrappers", HERE),
    Suite("Stable-Baselines3 check_env", "sb3_checker", HERE),
    Suite("PPO, DQN, MaskablePPO, RecurrentPPO, make_vec_env", "sb3_training", HERE),
    Suite("the same on the native batch", "sb3_native", HERE),
    Suite("RL Zoo", "rl_zoo", LATEST),
    Suite("TorchRL check_env_specs", "torchrl_specs", LATEST),
    Suite("RLlib PPO", "rllib_training", SETTLED),
    Suite("Minari round trip", "minari_roundtrip", LATEST),
    Suite("d3rlpy DiscreteCQL on it", "d3rlpy_offline", SETTLED, after="Minari round trip"),
    Suite("RecordVideo", "record_video", LATEST),
    Suite("every example", "own_tests", SETTLED, ("tests/test_examples.py",)),
    Suite(
        "an evaluation over Ray",
        "own_tests",
        SETTLED,
        ("tests/training/evaluation/benchmark/test_evaluation.py", "-k", "ray"),
    ),
    Suite(
        "IQM and intervals against rliable",
        "own_tests",
        LATEST,
        ("tests/test_statistics.py", "-k", "rliable"),
    ),
)
