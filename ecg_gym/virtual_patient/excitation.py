"""``Excitation``: what a heart's beats ask of its tissue. ``EIKONAL`` answers with the default heart's travel times.

Anything hashable with these two methods can take its place: ``ecg_gym.tissue`` has one of reaction-diffusion. Tissues
get a slot in the tables of a process when a heart of theirs is first drawn; slot 0 is the eikonal's. What leaves the
process names the tissue, never its slot.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Protocol

import numpy as np

from ecg_gym.virtual_patient import activation, repolarisation


class Excitation(Hashable, Protocol):
    """When each ventricular node fires and by how much longer than the mean it stays up. Hashed by its content."""

    def activation_ms(self, kind: str, slowness: float, fusion_ms: float = 0.0) -> np.ndarray:
        """``(N,)`` firing times [ms] after the first; ``slowness`` is a factor on all times and on ``fusion_ms``."""
        ...

    def longer_ms(self) -> np.ndarray:
        """``(N,)`` [ms], zero mean."""
        ...


@dataclass(frozen=True)
class Eikonal:
    """Travel times by constant speeds, and the default heart's pattern of action potential durations."""

    def activation_ms(self, kind: str, slowness: float, fusion_ms: float = 0.0) -> np.ndarray:
        """The map of ``activation.ventricular_map``, all times scaled."""
        return activation.ventricular_map(kind, fusion_ms) * slowness

    def longer_ms(self) -> np.ndarray:
        """Always by the order of normal conduction: cells keep their repolarisation when the path changes, and that is
        where the secondary T waves of bundle branch block come from."""
        return _pattern()


@cache
def _pattern() -> np.ndarray:
    return repolarisation.apd_pattern(activation.ventricular_map("normal"))


EIKONAL = Eikonal()
MOST_TISSUES = 8  # in one process: tables hold about 4 MB for each
_SLOTS: dict[Excitation, int] = {EIKONAL: 0}
_LOCK = Lock()


def slot_of(tissue: Excitation) -> int:
    """The tissue's slot in this process; what a heart shows does not depend on which it is.

    Raises ``ValueError`` for more than ``MOST_TISSUES`` different tissues.
    """
    with _LOCK:
        if tissue not in _SLOTS:
            if len(_SLOTS) == MOST_TISSUES:
                raise ValueError(
                    f"a tissue more than {MOST_TISSUES}; expected at most so many different ones in a process; "
                    "use several processes"
                )
            _SLOTS[tissue] = len(_SLOTS)
        return _SLOTS[tissue]


def tissue_in(slot: int) -> Excitation:
    """The tissue in a slot that :func:`slot_of` has given."""
    return list(_SLOTS)[slot]
