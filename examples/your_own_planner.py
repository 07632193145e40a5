"""A planner of your own in ten lines, judged beside the anchors.

    python examples/your_own_planner.py

This one follows a rule that a student might write: slow a fast heart, speed up a slow one, otherwise leave it alone.
"""

import gymnasium as gym

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import WATCH
from planners import PlanInfo, Planner, RandomPlanner, WatchAndWait, check_planner
from planners.base import allowed_treatments
from planners.baselines import episode_return


class RateRule(Planner):
    """A beta blocker above 110/min, atropine below 50/min, as much as is allowed."""

    def choose(self, env, state):
        rate = env.episode.now["hr_bpm"][0]  # what was measured on the strip; NaN compares as neither
        targets = {"metoprolol"} if rate > 110 else {"atropine"} if rate < 50 else set()
        options = [t for t in allowed_treatments(env) if targets & {dose.drug for dose in t.doses}]
        return PlanInfo(max(options, key=lambda t: t.doses[0].amount, default=WATCH))


def main(scenario: str = "af_rapid_response", episodes: int = 5) -> dict[str, float]:
    env = gym.make("ECGInterventionOracle-v0", scenario=scenario, risk="limits")
    check_planner(RateRule(env), env)
    returns = {}
    for planner in (RateRule(env), WatchAndWait(env), RandomPlanner(env)):
        name = type(planner).__name__
        returns[name] = sum(episode_return(env, planner, seed) for seed in range(episodes)) / episodes
        print(f"{name:14s} mean return of {episodes} episodes {returns[name]:.2f}")
    return returns


if __name__ == "__main__":
    main()
