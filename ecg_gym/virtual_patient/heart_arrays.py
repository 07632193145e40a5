"""Hearts of a batch as arrays: what synthesis reads of them, by code where it is a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.beat_spectra import KINDS, TERRITORIES
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.rhythm_arrays import RHYTHMS

_CODES = {
    "rhythm": {name: code for code, name in enumerate(RHYTHMS)},
    "conduction": {name: code for code, name in enumerate(KINDS)},
    "scar": {name: code for code, name in enumerate(TERRITORIES)},
    "injury": {name: code for code, name in enumerate(TERRITORIES)},
}


@dataclass(frozen=True)
class HeartArrays:
    """The fields of B ``Heart`` that synthesis reads, ``(B,)`` each."""

    rhythm: np.ndarray  # code of RHYTHMS
    conduction: np.ndarray  # code of KINDS
    scar: np.ndarray  # code of TERRITORIES
    injury: np.ndarray  # code of TERRITORIES
    pose: np.ndarray  # Heart.seat: the pose, and the tissue
    rate_bpm: np.ndarray
    pr_ms: np.ndarray
    sdnn_ms: np.ndarray
    qrs_ms: np.ndarray
    qtcf_ms: np.ndarray
    tpeak_tend_ms: np.ndarray
    r_gain: np.ndarray
    t_gain: np.ndarray
    p_gain: np.ndarray
    noise: np.ndarray

    def __len__(self) -> int:
        return len(self.rhythm)

    def __getitem__(self, rows: Any) -> HeartArrays:
        return HeartArrays(*(np.atleast_1d(value[rows]) for value in vars(self).values()))

    @classmethod
    def of(cls, hearts: Sequence[Heart]) -> HeartArrays:
        """The arrays of hearts as they stand at the door."""
        columns = []
        for name in cls.__dataclass_fields__:
            values = [getattr(heart, "seat" if name == "pose" else name) for heart in hearts]
            codes = _CODES.get(name)
            whole = codes is not None or name == "pose"
            columns.append(np.array([codes[v] for v in values] if codes else values, np.int64 if whole else float))
        return cls(*columns)


def stacked(changes: Sequence[Modulation]) -> Modulation:
    """One modulation with ``(B,)`` float in every field."""
    arrays: dict[str, Any] = {name: np.array([getattr(c, name) for c in changes], float) for name in vars(Modulation())}
    return Modulation(**arrays)
