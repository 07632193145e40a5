"""An agent discovers which model a patient's tissue obeys: reaction, diffusion, residual, by what its fits lack.

    python examples/discover_a_tissue.py

The fits were made before (a table of synthetic hearts ships), so this takes a second. With recordings of your own it is
``ecg-gym leads discover --data FOLDER --agent greedy --out out/discovery``, half a minute of CPU a fit.
"""

import gymnasium as gym
import numpy as np

import training.leads  # makes LEADS/Discovery-v0 known
from training.leads.agents import greedy_agent, random_agent


def main(case: int = 0, budget: int = 6) -> dict[str, float]:
    rewards = {}
    for name, agent in (("random edits", random_agent), ("greedy", greedy_agent)):
        env = gym.make(training.leads.ID, budget=budget, render_mode="ansi")
        observation, info = env.reset(seed=0, options={"case": case})
        rng, total, over = np.random.default_rng(0), 0.0, False
        while not over:
            observation, reward, over, _, info = env.step(agent(observation, info["action_mask"], rng))
            total += float(reward)
        rewards[name] = total
        print(f"{name}: return {total:.2f} (orders of magnitude below a tissue at rest, minus fits and size)")
        print(env.render(), "\n")
    return rewards


if __name__ == "__main__":
    main()
