"""How hard it is to see: tiers as data. What is seen differs from what is; the reward judges what is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import LEADS, MODEL_RATE_HZ, MODEL_SAMPLES
from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("tiers.yaml")
USUAL = "variation"


@dataclass(frozen=True)
class Tier:
    """One row of ``tiers.yaml``."""

    name: str
    description: str
    typical: bool = False  # everybody answers drugs as the average adult does
    noise: float | None = None  # level of the recording's own noise; None is as drawn
    seen_noise: float = 0.0  # level of the noise that is added to what is seen
    lead_sets: tuple[tuple[str, ...], ...] = ()  # an episode sees one of these; none means all twelve leads
    delayed: bool = False  # a strip is seen one step late

    @property
    def population(self) -> Mapping[str, Any]:
        """Words for ``World.initial``; empty where the population is the usual one."""
        words: dict[str, Any] = {"typical": True} if self.typical else {}
        return words if self.noise is None else {**words, "noise": self.noise}

    @property
    def clear(self) -> bool:
        """Whether what is seen is what is."""
        return not self.seen_noise and not self.lead_sets


@dataclass(frozen=True)
class SeenStrip:
    """A strip as an agent saw it, and what was given then: a history of these is all that may be known."""

    hours: float  # [h] when it was taken, on the patient's clock
    ecg: np.ndarray = field(compare=False, repr=False)  # (12, 1024) float32 [mV]; rows of missing leads are zero
    missing: tuple[str, ...] = ()  # leads that were off
    treatment: Any = None  # the Treatment given right after it; None while nothing is decided
    risk: float = 1.0  # read off this strip, as it was seen, against the first one as it was seen


@lru_cache(maxsize=1)
def load_tiers() -> Mapping[str, Tier]:
    """All tiers by name, easiest first."""
    return {name: _tier(name, row) for name, row in read_yaml(TABLE).items()}


def tier_named(name: str) -> Tier:
    """The tier of that name; ``ValueError`` names the others."""
    tiers = load_tiers()
    if not isinstance(name, str) or name not in tiers:
        raise ValueError(f"tier is {name!r}; expected one of {', '.join(tiers)}; choose one of them")
    return tiers[name]


def leads_off(tier: Tier, rngs: Sequence[np.random.Generator]) -> tuple[tuple[str, ...], ...]:
    """The leads that each episode misses; draws from ``rngs`` in tiers with lead sets only."""
    if not tier.lead_sets:
        return ((),) * len(rngs)
    lead_sets = [tier.lead_sets[int(rng.integers(len(tier.lead_sets)))] for rng in rngs]
    return tuple(tuple(lead for lead in LEADS if lead not in there) for there in lead_sets)


def as_seen(
    tier: Tier, strips: np.ndarray, missing: Sequence[Sequence[str]], rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    """Strips ``(B, 12, 1024)`` [mV] as they are seen: noise of the electrodes added, missing leads zero."""
    if tier.clear:
        return strips
    out = strips.copy()
    for row, (off, rng) in enumerate(zip(missing, rngs)):
        if tier.seen_noise:
            out[row] += _noise(rng, tier.seen_noise)
        out[row, [LEADS.index(lead) for lead in off]] = 0.0
    return out


def _noise(rng: np.random.Generator, level: float) -> np.ndarray:
    """Noise of moving electrodes in all leads, ``(12, 1024)`` float32 [mV]; Einthoven's law survives it."""
    from ecg_gym.virtual_patient.lead_field import ELECTRODES, leads_from_electrodes
    from ecg_gym.virtual_patient.noise import electrode_noise

    potential = electrode_noise(rng, len(ELECTRODES), MODEL_SAMPLES, MODEL_RATE_HZ, level)
    return leads_from_electrodes(potential).astype(np.float32)


def _tier(name: str, row: Mapping[str, Any]) -> Tier:
    leads = row.get("leads", {})
    return Tier(
        name=name,
        description=row["description"],
        typical=bool(row.get("typical", False)),
        noise=row.get("noise"),
        seen_noise=float(row.get("seen_noise", {}).get("value", 0.0)),
        lead_sets=tuple(tuple(leads_) for leads_ in leads.get("sets", ())),
        delayed=bool(row.get("delayed", False)),
    )
