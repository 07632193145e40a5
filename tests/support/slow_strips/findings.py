"""``findings`` of one strip, read off its train beat by beat."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import numpy as np

from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.truth import FINDINGS, table_values
from slow_strips.rhythm import Train


def findings(heart: Heart, train: Train, intervals: Mapping[str, float]) -> np.ndarray:
    """``(17,)`` bool: which findings a careful reader would report."""
    row, hr, pr = rhythms()[heart.rhythm], intervals["hr_bpm"], intervals["pr_ms"]
    degree, limit = row.get("av_block", 1), table_values("findings")
    long_pr = pr > limit["av_block_pr_ms"]
    present = {
        "Poor data quality": heart.noise > limit["poor_quality_noise"],
        "Sinus rhythm": row["leader"] == "sinus" and not (degree == 3 and not np.isfinite(train.pr_s).any()),
        "Premature ventricular contraction": row["leader"] == "sinus" and any("ectopic" in k for k in train.kind),
        "Tachycardia": hr > limit["tachycardia_bpm"],
        "Ventricular tachycardia": row["leader"] in ("ventricular", "torsade") or _longest_run(train.kind) >= 3,
        "Supraventricular tachycardia with aberrancy": row["leader"] == "reentry",
        "Atrial fibrillation": train.waves == "fibrillation",
        "Atrial flutter": train.waves == "flutter",
        "Bradycardia": hr < limit["bradycardia_bpm"],
        "Accessory pathway conduction": "preexcited" in train.kind,
        "Atrioventricular block": degree > 1 or long_pr or "escape" in train.kind,
        "1st degree atrioventricular block": degree == 1 and long_pr,
        "Bifascicular block": "bifascicular" in train.kind,
        "Right bundle branch block": bool({"rbbb", "bifascicular"} & set(train.kind)),
        "Left bundle branch block": "lbbb" in train.kind,
        "Infarction": bool(heart.scar or heart.injury),
        "Electronic pacemaker": row["leader"] == "paced",
    }
    return np.array([bool(present[name]) for name in FINDINGS])


def _longest_run(kinds: tuple[str, ...]) -> int:
    """The most ectopic ventricular beats in a row; three are a run of ventricular tachycardia."""
    return max((len(list(run)) for ectopic, run in groupby(kinds, key=lambda k: "ectopic" in k) if ectopic), default=0)
