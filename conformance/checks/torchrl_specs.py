"""TorchRL's ``check_env_specs`` on our ids in every kind of observation and action, and one rollout with masks told."""

from __future__ import annotations

from typing import Any

from conformance.script import CHEAP, LEARNED, ORACLE, need, run

CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    (ORACLE, CHEAP),
    (ORACLE, {**CHEAP, "obs": "waveform"}),
    (ORACLE, {**CHEAP, "actions": "multidiscrete"}),
    (LEARNED, {}),
)


def check() -> str:
    torchrl, utils, libs = need("torchrl", "torchrl.envs.utils", "torchrl.envs.libs.gym")
    for name, kwargs in CASES:
        print(name, kwargs, flush=True)
        env = libs.GymEnv(f"ecg_gym:{name}", categorical_action_encoding=True, **kwargs)
        env.set_seed(0)
        utils.check_env_specs(env)
        walked = env.rollout(10)
        assert 1 <= len(walked) <= 8, f"an episode of at most 8 steps took {len(walked)}"
        assert bool(walked["next", "done"][-1]), "the end of the episode is not told"
    return f"torchrl {torchrl.__version__}: {len(CASES)} kinds of env"


if __name__ == "__main__":
    run(check)
