"""``python -m ecg_gym.clinical_trial PROTOCOL FOLDER [SEED]``: a trial without waveforms and without a command line."""

import sys
from pathlib import Path

from ecg_gym.clinical_trial import load_protocol, run_trial

if __name__ == "__main__":
    name, folder, *seed = sys.argv[1:]
    run_trial(load_protocol(name), seed=int(seed[0]) if seed else 0, out=Path(folder), waveforms=False)
