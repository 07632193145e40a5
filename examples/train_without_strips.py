"""Train MaskablePPO on readings without strips, and judge it with strips: the learning curve, as CSV.

    pip install 'ecg-gym[rl]'
    python examples/train_without_strips.py hyperkalaemia 1000000 curve.csv
    python examples/train_without_strips.py picture curves.png curve.csv      # one panel for each curve

Training steps the virtual patient with ``fidelity="vitals"``, which tells what a measurement of each strip would say
without drawing it. The same patients, never trained on, are then played with ``fidelity="strip"``: a policy that only
learned how readings are made up would fall there. Beside it stand watching and random choice among what is allowed.
"""

import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.envs.sb3 import sb3_vec_env

ID = "ECGInterventionOracle-v0"
HEAD = "steps,cpu_s,vitals,strip,watch_strip,random_strip"


def main(
    scenario: str = "hyperkalaemia", steps: int = 1_000_000, out: str | None = None, looks: int = 10,
    episodes: int = 64, num_envs: int = 64, seed: int = 0,
) -> list[dict[str, float]]:  # fmt: skip
    """One row per look at the policy: mean returns of the same ``episodes`` patients with and without strips."""
    envs = sb3_vec_env(ID, num_envs, scenario=scenario, risk="limits", fidelity="vitals")
    model = MaskablePPO("MlpPolicy", envs, n_steps=128, batch_size=1024, n_epochs=4, seed=seed)
    judges = {
        fidelity: gym.make_vec(ID, num_envs=episodes, scenario=scenario, risk="limits", fidelity=fidelity)
        for fidelity in ("vitals", "strip")
    }
    rng = np.random.default_rng(seed)

    def by_policy(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(observations, action_masks=masks, deterministic=True)[0])

    def at_random(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return np.argmax(rng.random(masks.shape) * masks, axis=1)

    watching = mean_return(judges["strip"], lambda observations, masks: np.zeros(len(masks), int))
    chance = mean_return(judges["strip"], at_random)
    rows: list[dict[str, float]] = []
    begin = time.process_time()
    for look in range(looks + 1):
        if look:
            model.learn(steps // looks, reset_num_timesteps=False)
        numbers = (model.num_timesteps, time.process_time() - begin, mean_return(judges["vitals"], by_policy),
                   mean_return(judges["strip"], by_policy), watching, chance)  # fmt: skip
        rows.append(dict(zip(HEAD.split(","), map(float, numbers))))
        print(" ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
        if out is not None:
            lines = [",".join(f"{value:.4f}" for value in row.values()) for row in rows]
            Path(out).write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return rows


def picture(out: str, *curves: str) -> None:
    """Returns judged with strips over the steps that were learned from, beside watching and random choice."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(curves), 3.2), layout="constrained")
    for panel, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves):
        rows = np.genfromtxt(curve, delimiter=",", names=True)
        for name, words in (("strip", "learned"), ("watch_strip", "watching"), ("random_strip", "random")):
            panel.plot(rows["steps"], rows[name], "o-" if name == "strip" else "--", label=words)
        panel.set(title=Path(curve).stem, xlabel="env steps", ylabel="return, judged with strips")
    panel.legend()
    figure.savefig(out, dpi=100)


def mean_return(envs: gym.vector.VectorEnv, choose) -> float:  # type: ignore[no-untyped-def]
    """Mean undiscounted return of one episode in every row."""
    obs, info = envs.reset(seed=50_000)
    total, over = np.zeros(envs.num_envs), np.zeros(envs.num_envs, bool)
    while not over.all():
        obs, reward, terminated, truncated, info = envs.step(choose(obs, info["action_mask"].astype(bool)))
        total += np.where(over, 0.0, reward)
        over |= terminated | truncated
    return float(total.mean())


if __name__ == "__main__":
    if sys.argv[1:2] == ["picture"]:
        picture(*sys.argv[2:])
        sys.exit()
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]), *sys.argv[3:4])
