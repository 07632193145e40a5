"""``judge_named(name)``: an imported network that says how likely findings are, by its name or by the path of its file.

``ecg-gym weights import`` writes to :func:`folder`, and names are looked up there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ecg_gym.risk.source import FindingsSource

FOLDER = "ECG_GYM_WEIGHTS"  # environment variable: where imported weights are kept
JUDGES = ("ecgfounder", "ecg-fm")


class Judge(FindingsSource, Protocol):
    """A findings source from outside."""

    name: str

    def beyond_findings(self, strips: np.ndarray) -> Mapping[str, np.ndarray]:
        """What it sees that the 17 findings do not: statement -> probability ``(B,)``."""
        ...


def folder() -> Path:
    """Where imported weights are kept: ``$ECG_GYM_WEIGHTS``, or ``out/weights`` below the working directory."""
    return Path(os.environ.get(FOLDER) or Path("out") / "weights")


def path_of(name: str) -> Path:
    """The file of the imported network ``name``."""
    return folder() / f"{name}.safetensors"


def judge_named(name: str) -> Judge:
    """The judge of that name, or at that path; ValueError for an unknown one and for weights that are not there."""
    path = path_of(name) if name in JUDGES else Path(name)
    if name not in JUDGES and path.suffix != ".safetensors":
        raise ValueError(f"the judge is {name!r}; expected {' or '.join(JUDGES)}, or a *.safetensors file; choose one")
    if not path.is_file():
        raise ValueError(
            f"no weights at {path}; expected an imported network; get its checkpoint from its authors and run "
            f"`ecg-gym weights import FILE --as {name if name in JUDGES else JUDGES[0]}`"
        )
    from ecg_gym import checkpoint
    from ecg_gym.foreign import ecg_fm, ecgfounder  # torch, only here

    is_fm = checkpoint.metadata(path).get("kind") == ecg_fm.KIND
    return ecg_fm.ECGFM.load(path) if is_fm else ecgfounder.ECGFounder.load(path)
