"""A drug of your own is one row of YAML: then it is on the menu, and the virtual patient answers it.

    python examples/your_own_drug.py

The row is `examples/your_own_drug.yaml`, an invented compound; the variable ECG_GYM_DRUGS names the file, for every
command and every process: `ECG_GYM_DRUGS=my_drugs.yaml ecg-gym plan ... --drugs compound_x`.
"""

import os
from pathlib import Path

ROW = Path(__file__).with_name("your_own_drug.yaml")
os.environ.setdefault("ECG_GYM_DRUGS", str(ROW))  # before the first drug is looked up

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402

import ecg_gym  # noqa: E402, F401 - makes the ids known


def main(people: int = 16, hours: int = 4, seed: int = 0) -> dict[str, float]:
    """Mean peak change of QTcF [ms] by treatment, in the same people with the same luck."""
    drugs = ["placebo", "compound_x", "dofetilide"]
    envs = gym.make_vec(
        "ECGInterventionOracle-v0", num_envs=people, drugs=drugs, risk="limits", scenario="healthy_volunteer"
    )
    peaks = {}
    for entry, treatment in enumerate(envs.unwrapped.menu):
        _, info = envs.reset(seed=seed)
        before = info["qtcf_ms"]
        changes = [
            envs.step(np.full(people, entry if hour == 0 else 0))[-1]["qtcf_ms"] - before for hour in range(hours)
        ]
        peaks[str(treatment)] = float(np.mean(changes, axis=1).max())
        print(f"{treatment!s:24s} QTcF {peaks[str(treatment)]:+6.1f} ms at its highest mean of {people} people")
    return peaks


if __name__ == "__main__":
    main()
