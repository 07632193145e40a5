"""Train MaskablePPO in the learned world, through the native batched env, and judge it in the virtual patient.

    pip install 'ecg-gym[rl]'
    python examples/train_ppo.py

Both worlds show the same observations and take the same actions, so a policy moves from one to the other as it is. What
counts is the second number: a policy may earn in its model what no patient would pay. Two thousand steps take some
minutes on a laptop and are a beginning, not a result; `ecg-gym evaluate` judges properly.
"""

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.envs.sb3 import sb3_vec_env
from planners import RandomPlanner, WatchAndWait
from planners.baselines import episode_return

SCENARIO = "af_rapid_response"
QUICK = {"knobs": {"sampler": "student", "steps": 2}}  # the distilled sampler: several times faster, a little coarser


def main(steps: int = 2048, num_envs: int = 16, episodes: int = 8, seed: int = 0) -> dict[str, float]:
    """Mean returns by policy and world."""
    inside = sb3_vec_env("ECGIntervention-v0", num_envs, scenario=SCENARIO, risk="limits", **QUICK)
    truth = sb3_vec_env("ECGInterventionOracle-v0", min(num_envs, episodes), scenario=SCENARIO, risk="limits")
    rollout = max(2, min(64, steps // num_envs))
    model = MaskablePPO("MlpPolicy", inside, n_steps=rollout, batch_size=min(64, rollout * num_envs), seed=seed)
    model.learn(steps)
    returns = {}
    for name, envs in (("PPO in the model it learned in", inside), ("PPO in the virtual patient", truth)):
        envs.seed(10_000 + seed)
        returns[name] = float(evaluate_policy(model, envs, n_eval_episodes=episodes)[0])
    alone = gym.make("ECGInterventionOracle-v0", scenario=SCENARIO, risk="limits")
    for planner in (WatchAndWait(alone), RandomPlanner(alone)):
        name = f"{type(planner).__name__} in the virtual patient"
        returns[name] = float(np.mean([episode_return(alone, planner, 10_000 + seed + i) for i in range(episodes)]))
    for name, value in returns.items():
        print(f"{name:40s} mean return of {episodes} episodes {value:6.2f}")
    return returns


if __name__ == "__main__":
    main()
