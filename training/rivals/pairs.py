"""What rivals learn from: the pairs of strips that our denoiser learns from, as beats, shard by shard and kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from ecg_gym.core import WATCH
from ecg_gym.datasets.transitions import Trials, read_shard, shard_paths
from ecg_gym.world_model.conditioning import FeatureScale, Look, unread
from training.data.pairs import chosen_pairs, encode, load_or_make, measured_after
from training.loop import Batch, Draw
from training.rivals.condition import fact_names, hashed, raw_facts, sentence
from training.rivals.typical_beats import Beats

SCALED_ON = 20_000  # pairs that the features' scale is measured on
HIDDEN = 0.5  # share of a batch that is not told the target intervals: one network serves both columns


@dataclass(frozen=True)
class Pairs:
    """N pairs of S strips of one person each."""

    beats: np.ndarray  # (S, C, 128) float16
    intervals: np.ndarray  # (S, len(OBSERVED)) float32, measured on the strip that its beats are laid out to
    observed: np.ndarray  # (S, len(OBSERVED)) float32, measured on the strip itself
    exposure: np.ndarray  # (S, len(EXPOSURE)) float32
    person: np.ndarray  # (S, len(PEOPLE)) float32
    hours: np.ndarray  # (S,) [h]
    text: np.ndarray  # (N, TEXT) float16
    before: np.ndarray  # (N,) strip before
    after: np.ndarray  # (N,) strip to be drawn

    def __len__(self) -> int:
        return len(self.before)

    def facts(self, rows: np.ndarray, has_targets: np.ndarray) -> np.ndarray:
        """Raw numbers ``(n, F)`` of these pairs; the target intervals where ``told (n,)``."""
        i, j = self.before[rows], self.after[rows]
        reference = Look(self.observed[i], self.exposure[i], self.hours[i], unread(len(i)))
        targets = np.where(has_targets[:, None], self.intervals[j], np.nan)
        return raw_facts(self.person[j], reference, self.exposure[j], self.hours[j], targets)


def read_pairs(folder: Path, split: str = "train") -> Pairs:
    """The pairs of a split of the shards in ``folder``; beats are kept there, one file per shard."""
    parts = []
    for path in shard_paths(folder, split):
        aside = folder / "beats" / path.name
        parts.append(Pairs(**load_or_make(aside, lambda path=path: _make(read_shard(path), path))))  # type: ignore[misc]
    strips = np.cumsum([0, *[len(part.beats) for part in parts]])
    indices = {name: [getattr(p, name) + s for p, s in zip(parts, strips)] for name in ("before", "after")}
    return Pairs(**{f.name: np.concatenate(indices.get(f.name) or [getattr(p, f.name) for p in parts])
                    for f in fields(Pairs)})  # fmt: skip


def _make(trials: Trials, path: Path) -> dict[str, np.ndarray]:
    before, after = chosen_pairs(trials, np.random.default_rng(int(path.stem.split("_")[1])))
    beats = encode(Beats(), trials.strips, np.zeros((len(trials), 8), bool))
    there = np.asarray(np.abs(beats).max(axis=(1, 2)) > 0)
    before, after = (rows[there[before] & there[after]] for rows in (before, after))
    text = np.array([hashed(sentence(trials.person[j], doses_between(trials, i, j))) for i, j in zip(before, after)])
    return {
        "beats": beats, "intervals": measured_after(Beats(), beats),
        "observed": trials.observed, "exposure": trials.exposure, "person": trials.person, "hours": trials.hours,
        "text": text.astype(np.float16), "before": before, "after": after,
    }  # fmt: skip


def doses_between(trials: Trials, before: int, after: int) -> list[str]:
    """The doses that one person was given from the strip ``before`` to the strip ``after``, as words."""
    words = [str(word) for word in trials.treatment[before + 1 : after + 1]]
    return [dose for word in words if word not in ("", str(WATCH)) for dose in word.split(" + ")]


def scale_of(pairs: Pairs) -> FeatureScale:
    """The scale of the numbers, measured on the training pairs."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(pairs))[:SCALED_ON]
    return FeatureScale.fit(fact_names(), pairs.facts(rows, rng.random(len(rows)) >= HIDDEN))


def batches(pairs: Pairs, scale: FeatureScale, batch: int) -> Draw:
    """Draws batches of pairs."""
    names = fact_names()

    def draw(rng: np.random.Generator) -> Batch:
        rows = rng.integers(len(pairs), size=batch)
        columns = {
            "before": pairs.beats[pairs.before[rows]],
            "facts": scale(pairs.facts(rows, rng.random(batch) >= HIDDEN), names),
            "text": pairs.text[rows],
            "after": pairs.beats[pairs.after[rows]],
        }
        return {name: torch.from_numpy(np.asarray(column, dtype=np.float32)) for name, column in columns.items()}

    return draw
