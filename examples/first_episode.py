"""One episode with a virtual patient: somebody in atrial fibrillation, somebody else choosing the drugs by dice.

    python examples/first_episode.py

Needs no weights and no GPU. Each line is what a person at the bedside would see; the reward is minus the risk.
"""

import gymnasium as gym

import ecg_gym  # noqa: F401 - makes the ids known


def main(scenario: str = "af_rapid_response", seed: int = 0) -> float:
    env = gym.make("ECGInterventionOracle-v0", scenario=scenario, risk="limits", render_mode="ansi")
    _, info = env.reset(seed=seed)
    print(env.render())
    total, over = 0.0, False
    env.action_space.seed(seed)
    while not over:
        action = env.action_space.sample(mask=info["action_mask"])  # only what the clinical rules allow
        _, reward, terminated, truncated, info = env.step(action)
        total, over = total + reward, terminated or truncated
        print(env.render())
    print(f"return {total:.2f} (between -8 and 0 for a survivor; lower after a lethal rhythm)")
    return total


if __name__ == "__main__":
    main()
