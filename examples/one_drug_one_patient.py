"""One drug, one patient: what a single dose does over eight hours, beside the same person who got nothing.

    python examples/one_drug_one_patient.py "dofetilide 0.5 mg PO" out/one_drug.png

A copy of the env in the middle of an episode has the same future, so the twin who only waits has the same heart, the
same day and the same luck: what differs is the drug. The concentration is the virtual patient's truth.
"""

import copy
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY

HEAD = "hour   concentration [ng/mL]   QTcF [ms]   without   rate [/min]   without"


def main(dose: str = "dofetilide 0.5 mg PO", picture: str = "out/one_drug.png", seed: int = 0) -> np.ndarray:
    """The table that is printed, one row per hour."""
    treatment = Treatment((FORMULARY.check(parse_dose(dose), Patient()),))
    drug = treatment.doses[0].drug
    treated = gym.make("ECGInterventionOracle-v0", drugs=[drug], risk="limits", scenario="healthy_volunteer")
    _, info = treated.reset(seed=seed)
    waiting = copy.deepcopy(treated)
    value = other = info
    rows, action, over = [], treated.unwrapped.action(treatment), False
    while True:
        level = treated.unwrapped.world.truth(treated.unwrapped.state)[0].concentrations.get(drug, 0.0)
        rows.append((value["hours"], level, value["qtcf_ms"], other["qtcf_ms"], value["hr_bpm"], other["hr_bpm"]))
        if over:
            break
        _, _, terminated, truncated, value = treated.step(action)
        _, _, _, _, other = waiting.step(0)
        action, over = 0, terminated or truncated
    table = np.array(rows)
    print(f"{treatment}, one healthy volunteer\n{HEAD}")
    for row in table:
        print("{:4.0f}   {:21.2f}   {:9.0f}   {:7.0f}   {:11.0f}   {:7.0f}".format(*row))
    draw(table, str(treatment), Path(picture))
    return table


def draw(table: np.ndarray, title: str, picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    top, middle, bottom = figure.subplots(3, sharex=True)
    top.plot(table[:, 0], table[:, 1], color="tab:red", marker="o")
    top.set(title=title, ylabel="plasma [ng/mL]")
    for ax, column, label in ((middle, 2, "QTcF [ms]"), (bottom, 4, "rate [1/min]")):
        ax.plot(table[:, 0], table[:, column], color="tab:red", marker="o", label="with the drug")
        ax.plot(table[:, 0], table[:, column + 1], color="tab:gray", linestyle="--", label="the same person without")
        ax.set(ylabel=label)
    middle.legend()
    bottom.set(xlabel="hours after the dose")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)
    print(f"picture: {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
