"""What the denoiser learns from: pairs of strips of one person, and the EPK that stands between them, shard by shard.

A pair is a reference strip and a later one. Its EPK is McSharry's model of the reference, run over the later strip's own
beats with the later strip's own intervals: at inference both are drawn, here they are known. Shards are prepared one by
one and kept, so that preparing can be stopped, resumed, and shared between processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from ecg_gym.core import INDEPENDENT_LEADS, limb_from_independent
from ecg_gym.datasets.trials import Trials, read_shard
from ecg_gym.physiology import ASKED, anchor_traces, epk_traces, fit_leads, recorded_beats
from ecg_gym.world_model.conditioning import OBSERVED, modulations_of, observe_strips
from ecg_gym.world_model.vae import VAE

CHUNK = 128


@dataclass(frozen=True)
class Priors:
    """EPK of N pairs of strips of one shard."""

    before: np.ndarray  # (N,) row of the shard, the reference
    after: np.ndarray  # (N,) row of the shard
    spoken: np.ndarray  # (M,) the pairs whose EPK does not abstain
    strips: np.ndarray  # (M, 8, 1024) float16 [mV], or (M, 1024) for the paper's lead II


def chosen_pairs(trials: Trials, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each person's first strip with every later one, and one other strip of theirs with every one later still."""
    before, after = trials.pairs()
    first = trials.first()
    measured = np.isfinite(trials.observed[:, OBSERVED.index("hr_bpm")])
    usable = trials.alive[before] & trials.alive[after] & measured[before]
    length = np.bincount(first, minlength=len(trials))[first]
    pick = first + 1 + (rng.random(len(trials))[first] * np.maximum(length - 2, 1)).astype(int)
    chosen = usable & ((before == first[before]) | (before == pick[before]))
    return before[chosen], after[chosen]


def priors_of(path: Path, folder: Path, paper: bool = False) -> Priors:
    """The EPK of a shard's pairs, worked out once and kept in ``folder``."""
    kept = folder / f"{'paper' if paper else 'epk'}_{path.stem}.npz"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        made = _priors(read_shard(path), int(path.stem.split("_")[1]), paper)
        aside = kept.with_name(f".{kept.stem}.{os.getpid()}.npz")
        np.savez(aside, **{f.name: getattr(made, f.name) for f in fields(made)})
        os.replace(aside, kept)
    with np.load(kept, allow_pickle=False) as file:
        return Priors(**{f.name: file[f.name] for f in fields(Priors)})


def _priors(trials: Trials, seed: int, paper: bool) -> Priors:
    before, after = chosen_pairs(trials, np.random.default_rng(seed))
    references, which = np.unique(before, return_inverse=True)
    strips = limb_from_independent(trials.strips[references].astype(np.float32))
    rows = [rows_of(row) for row in trials.observed[references]]
    if paper:
        boards = trials.board
        epk = epk_traces(
            strips[which], [rows[i] for i in which], modulations_of(boards[before]), modulations_of(boards[after])
        )
        return Priors(before, after, np.flatnonzero(~epk.abstained), epk.trace_mv[~epk.abstained].astype(np.float16))
    fit = fit_leads(strips, rows)
    column = {name: trials.observed[after, i] for i, name in enumerate(OBSERVED)}
    there = (column["p_present"] > 0) & (column["regular"] > 0) & np.isfinite(column["jtpeak_ms"])
    spoken = np.flatnonzero(there & ~fit.abstained[which])
    wanted = np.stack([column[name][spoken] for name in ASKED], axis=1)
    later, place = np.unique(after[spoken], return_inverse=True)
    beats = recorded_beats(trials.strips[later].astype(np.float32))[place]
    drawn = anchor_traces(fit[which[spoken]], wanted, beats)
    heard = np.isfinite(beats).all(axis=1)
    return Priors(before, after, spoken[heard], drawn[heard].astype(np.float16))


def rows_of(observed: np.ndarray) -> dict[str, float]:
    """One strip's measurements by name, with its mean RR [ms]."""
    row = dict(zip(OBSERVED, map(float, observed)))
    return {**row, "rr_ms": 60000 / row["hr_bpm"]}
