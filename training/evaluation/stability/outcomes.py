"""Everything the study of stability has drawn, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from training.evaluation.stability import arms
from training.evaluation.stability.arms import ArmSamples, Dead
from training.evaluation.world_model.rollout_arms import SCORED

S = slice(0, len(SCORED))
UNITS = {name: "bpm" if name.endswith("bpm") else "ms" for name in SCORED}
Metrics = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Outcomes:
    """Everything that was drawn for N patients; the virtual patient's own samples under ``truth``."""

    real: np.ndarray  # (N, H + 1, 6) what happened to the treated, columns harness.INTERVALS
    real_placebo: np.ndarray  # (N, H + 1, 6)
    real_once: np.ndarray  # (N, H + 1, 6)
    world: Mapping[str, ArmSamples]
    truth: Mapping[str, ArmSamples]
    pharmacology: np.ndarray  # (N, H + 1, 6) the first strip moved by population pharmacology, one fading dose
    untreated: np.ndarray  # (N, H + 1, 6) the same without it
    plasma: np.ndarray  # (N, H + 1) level of the fading dose over its largest
    dead: Dead
    refused: int  # patients whose first strip the world refused

    @property
    def patient(self) -> np.ndarray:
        """Numbers of the patients ``(N,)``."""
        return np.arange(len(self.real))

    def deaths(self, of: str) -> int:
        """Samples that ended lethally, over all open courses."""
        return int(sum((~one.alive[:, :, -1]).sum() for one in getattr(self, of).values()))


def together(parts: Sequence[Outcomes]) -> Outcomes:
    """The patients of several seeds in one."""
    joined: dict[str, Any] = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Outcomes)
        if isinstance(getattr(parts[0], f.name), np.ndarray)
    }
    joined["world"], joined["truth"] = (
        arms.together([getattr(part, of) for part in parts]) for of in ("world", "truth")
    )
    joined["dead"] = Dead(sum(part.dead.rows for part in parts), sum(part.dead.changed for part in parts))
    return Outcomes(refused=sum(part.refused for part in parts), **joined)
