"""Makes the patient that ships with the package: virtual, so that nobody's record is published.

    python -m training.cli.default_patient

A woman of 71 with atrial fibrillation and a rapid ventricular response; there some drugs help and the obvious
antiarrhythmics do not.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import yaml

from ecg_gym.checkpoint import ASSETS
from ecg_gym.core import ECG, Patient
from ecg_gym.datasets.records import write_record
from ecg_gym.virtual_patient import draw_heart, synthesise

SEED, RATE_HZ = 7, 500.0
WHO = Patient(71.0, "F", weight_kg=68.0, height_cm=164.0, potassium=4.1, magnesium=0.82, creatinine_clearance=72.0)
SCENARIO = "af_rapid_response"  # the situation the demo plans for
_SETS = ("conditions", "medication")


def make(folder: Path = ASSETS) -> Path:
    """Write ``default_patient.hea/.dat`` (10 s, 500 Hz) and ``.yaml`` (who it is); returns the record's path."""
    rng = np.random.default_rng(SEED)
    heart = draw_heart(rng, WHO, "af_rapid", "normal", "")
    heart = replace(heart, pose=0, injury="", r_gain=1.0, t_gain=1.0, noise=0.8, rate_bpm=136.0)
    signal, _ = synthesise(heart, rng=rng, rate_hz=RATE_HZ)
    path = folder / "default_patient"
    write_record(path, ECG(signal, RATE_HZ), ["virtual patient made by ecg-gym, Apache-2.0"], WHO)
    facts = {name: value for name, value in asdict(WHO).items() if value is not None and name not in _SETS}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(make())
