"""A drug trial of your own: a page of YAML, run on virtual people; effects measured from the strips beside true ones.

    python examples/your_own_trial.py

The same from the shell: `ecg-gym trial examples/your_own_trial.yaml`.
"""

from pathlib import Path

from rich.console import Console

from ecg_gym.clinical_trial import TrialResult, load_protocol, run_trial
from ecg_gym.clinical_trial.report import effects_table

PROTOCOL = Path(__file__).with_name("your_own_trial.yaml")


def main(people: int = 12, seed: int = 0) -> TrialResult:
    result = run_trial(load_protocol(str(PROTOCOL)), people, seed)
    Console(width=120, markup=False).print(effects_table(result))
    return result


if __name__ == "__main__":
    main()
