"""What every rival knows of a strip that is to be drawn: the strip before, numbers, and a sentence as hashed words.

The numbers are those of our denoiser (exposure as modulation, person, measured intervals, clock), and what population
pharmacology expects of the intervals. Target intervals stand among them only in the column "with our forecast".
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ecg_gym.core import INDEPENDENT_LEADS
from ecg_gym.pharmacology import CONDITIONS
from ecg_gym.world_model.conditioning import (
    EXPOSURE,
    MODULATION,
    OBSERVED,
    PEOPLE,
    Look,
    expected_intervals,
    render_features,
    render_names,
)

TEXT = 256  # buckets that words are hashed into
EXPECTED = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms")


@dataclass(frozen=True)
class Condition:
    """One row per strip that is to be drawn."""

    before: Tensor  # (B, C, 128) typical beat of the strip before
    facts: Tensor  # (B, F) numbers, scaled; 0 is unknown
    text: Tensor  # (B, TEXT) hashed words of the sentence of patient and drugs

    def __len__(self) -> int:
        return len(self.before)

    def __getitem__(self, rows: slice | np.ndarray) -> Condition:
        return Condition(*(getattr(self, f.name)[rows] for f in fields(self)))

    def repeat(self, k: int) -> Condition:
        """Each row ``k`` times in a row."""
        return Condition(*(getattr(self, f.name).repeat_interleave(k, dim=0) for f in fields(self)))

    @classmethod
    def of(cls, batch: dict[str, Tensor]) -> Condition:
        """The columns of a batch that are no target."""
        return cls(*(batch[f.name] for f in fields(cls)))


def fact_names() -> tuple[str, ...]:
    """The names of the columns of :func:`raw_facts`."""
    return (*render_names(), *[f"expected.{name}" for name in EXPECTED])


def raw_facts(
    person: np.ndarray, reference: Look, after_exposure: np.ndarray, after_hours: np.ndarray, targets: np.ndarray | None
) -> np.ndarray:
    """Numbers ``(B, F)`` float32 in their own units, columns :func:`fact_names`; NaN is unknown.

    ``person (B, len(PEOPLE))``, ``reference`` the strip before, what is on board ``after_board (B, len(EXPOSURE))`` at
    ``after_hours (B,)`` [h], and the intervals ``targets (B, len(OBSERVED))`` that the strip shall have, or None.
    """
    n = len(reference)
    intervals = np.full((n, len(OBSERVED)), np.nan) if targets is None else targets
    nothing = np.zeros((n, len(INDEPENDENT_LEADS)), bool)
    usual = render_features(person, reference, after_exposure, after_hours, nothing, np.zeros(n), intervals)
    then = {name: reference.observed[:, i].astype(float) for i, name in enumerate(OBSERVED)}
    was, now = (_words(exposure) for exposure in (reference.exposure, after_exposure))
    expected = expected_intervals(then, then["p_present"], was, now)
    return np.concatenate([usual, np.stack([expected[name] for name in EXPECTED], axis=1)], axis=1).astype(np.float32)


def _words(exposure: np.ndarray) -> dict[str, np.ndarray]:
    return {word: exposure[:, EXPOSURE.index(f"modulation.{word}")].astype(float) for word in MODULATION}


def sentence(person: np.ndarray, doses: Sequence[str]) -> str:
    """One patient, a row of ``people``, and the doses since the strip before, in plain words; unknown is left out."""
    column = dict(zip(PEOPLE, person))
    words = []
    if np.isfinite(column["person.age_years"]):
        words.append(f"aged {int(column['person.age_years'] // 10)}0s")
    if np.isfinite(column["person.female"]):
        words.append("woman" if column["person.female"] > 0.5 else "man")
    words += [name for name in CONDITIONS if column[f"condition.{name}"] > 0.5]
    return " ".join([*words, "then", *(doses or ("nothing",))])


def hashed(words: str) -> np.ndarray:
    """Counts ``(TEXT,)`` float32 of the words by bucket, scaled to unit length."""
    counts = np.zeros(TEXT, np.float32)
    for word in words.split():
        counts[zlib.crc32(word.encode()) % TEXT] += 1
    return counts / np.sqrt((counts**2).sum())


def condition_of(before: np.ndarray, facts: np.ndarray, text: np.ndarray) -> Condition:
    """The same columns as tensors, float32."""
    return Condition(*(torch.from_numpy(np.asarray(column, dtype=np.float32)) for column in (before, facts, text)))
