"""What the denoiser learns from: pairs of strips of one person, and the EPK between them, shard by shard.

A pair is a reference strip and a later one. Its EPK is McSharry's model of the reference, run over the later strip's
own beats with the later strip's own intervals: at inference both are drawn, here they are known. Shards are prepared
one by one and kept, so that preparing can be stopped, resumed, and shared between processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ecg_gym.core import INDEPENDENT_LEADS, limb_from_independent
from ecg_gym.datasets.transitions import Trials, read_shard
from ecg_gym.io import write_npz
from ecg_gym.physiology import (
    TARGET_INTERVALS,
    Ectopy,
    anchor_traces,
    epk_traces,
    find_ectopy,
    fit_leads,
    overlay,
    recorded_beats,
    recorded_places,
)
from ecg_gym.world_model.codecs import Codec, load_codec
from ecg_gym.world_model.conditioning import OBSERVED, modulations_of, observe_strips

CHUNK = 128


@dataclass(frozen=True)
class Priors:
    """EPK of N pairs of strips of one shard."""

    before: np.ndarray  # (N,) row of the shard, the reference
    after: np.ndarray  # (N,) row of the shard
    has_prior: np.ndarray  # (M,) the pairs whose EPK does not abstain
    strips: np.ndarray  # (M, 8, 1024) float16 [mV], or (M, 1024) for the paper's lead II


def chosen_pairs(trials: Trials, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each person's first strip with every later one, and one other strip of theirs with every one later still."""
    before, after = trials.pairs()
    first = trials.first()
    measurable = np.isfinite(trials.observed[:, OBSERVED.index("hr_bpm")])
    usable = trials.alive[before] & trials.alive[after] & measurable[before]
    length = np.bincount(first, minlength=len(trials))[first]
    pick = first + 1 + (rng.random(len(trials))[first] * np.maximum(length - 2, 1)).astype(int)
    keep = usable & ((before == first[before]) | (before == pick[before]))
    return before[keep], after[keep]


def priors_of(path: Path, folder: Path, paper: bool = False) -> Priors:
    """The EPK of a shard's pairs, worked out once and kept in ``folder``."""

    def make() -> dict[str, np.ndarray]:
        priors = _priors(read_shard(path), _number(path), paper)
        return {f.name: getattr(priors, f.name) for f in fields(priors)}

    return Priors(**load_or_make(folder / f"{'paper' if paper else 'epk'}_{path.stem}.npz", make))


def _priors(trials: Trials, seed: int, paper: bool) -> Priors:
    before, after = chosen_pairs(trials, np.random.default_rng(seed))
    references, which = np.unique(before, return_inverse=True)
    strips = limb_from_independent(trials.strips[references].astype(np.float32))
    rows = [rows_of(row) for row in trials.observed[references]]
    if paper:
        exposures = trials.exposure
        epk = epk_traces(
            strips[which], [rows[i] for i in which], modulations_of(exposures[before]), modulations_of(exposures[after])
        )
        return Priors(before, after, np.flatnonzero(~epk.abstained), epk.trace_mv[~epk.abstained].astype(np.float16))
    fit = fit_leads(strips, rows)
    column = {name: trials.observed[after, i] for i, name in enumerate(OBSERVED)}
    has_prior = np.flatnonzero(np.isfinite(column["hr_bpm"]) & fit.drawable[which])
    targets = np.stack([column[name][has_prior] for name in TARGET_INTERVALS], axis=1)
    later, place = np.unique(after[has_prior], return_inverse=True)
    beats = recorded_beats(trials.strips[later].astype(np.float32))[place]
    p_present = column["p_present"][has_prior] > 0
    samples = anchor_traces(fit[which[has_prior]], targets, beats, p_present=p_present, abstain=False)
    own, then = find_ectopy(strips), find_ectopy(trials.strips[later].astype(np.float32))
    levels = fit.baseline_mv[which[has_prior]]
    samples = with_recorded_ectopy(samples, [own[i] for i in which[has_prior]], [then[i] for i in place], levels)
    hidden = np.isfinite(beats).all(axis=1)
    return Priors(before, after, has_prior[hidden], samples[hidden].astype(np.float16))


def with_recorded_ectopy(
    traces: np.ndarray, own: Sequence[Ectopy], then: Sequence[Ectopy], levels: np.ndarray
) -> np.ndarray:
    """Traces ``(N, 8, 1024)`` [mV] with each reference's ectopic beats where the later strip has its own; ``levels
    (N, 8)`` [mV] are isoelectric."""
    result = np.array(traces)
    for i, (mine, later) in enumerate(zip(own, then)):
        if places := recorded_places(mine, later):
            result[i] = overlay(traces[i], places, levels[i])
    return result


def rows_of(observed: np.ndarray) -> dict[str, float]:
    """One strip's measurements by name, with its mean RR [ms]."""
    row = dict(zip(OBSERVED, map(float, observed)))
    return {**row, "rr_ms": 60000 / row["hr_bpm"]}


@dataclass(frozen=True)
class Drawings:
    """Pairs of strips as the codec sees them, N pairs of S strips; see ``Trials`` for the columns of a strip."""

    latent: np.ndarray  # (S, C, 128) float16
    masked: np.ndarray  # (S, C, 128) float16: again, from a strip that lacks the `missing` leads
    missing: np.ndarray  # (S, 8) bool
    decoded_intervals: np.ndarray  # (S, len(OBSERVED)) float32, measured on the decoded strip
    observed: np.ndarray  # (S, len(OBSERVED)) float32, measured on the strip itself
    exposure: np.ndarray  # (S, len(EXPOSURE)) float32
    person: np.ndarray  # (S, len(PEOPLE)) float32
    hours: np.ndarray  # (S,) [h]
    prior: np.ndarray  # (M, C, 128) float16 EPK as a latent, or (M, 1024) its trace [mV]
    before: np.ndarray  # (N,) strip of the reference
    after: np.ndarray  # (N,) strip to be drawn
    place: np.ndarray  # (N,) row of `prior`, -1 where it abstains
    real: int = 0  # how many of the pairs, the last ones, are real strips redrawn as they are

    def __len__(self) -> int:
        return len(self.before)

    def prior_of(self, rows: np.ndarray) -> np.ndarray:
        """EPK of these pairs, 0 where it abstains."""
        there = (self.place[rows] >= 0).reshape(-1, *[1] * (self.prior.ndim - 1))
        if not len(self.prior):
            return np.zeros((len(rows), *self.prior.shape[1:]), np.float32)
        return np.where(there, self.prior[self.place[rows]], 0).astype(np.float32)


def drawings_of(
    paths: list[Path], vae: Codec, folder: Path, priors: Path, reference: str = "first", paper: bool = False
) -> Drawings:
    """All pairs of these shards: encoded shard by shard into ``folder``, EPK kept in ``priors``, then joined.

    ``reference="last"`` keeps the pairs of consecutive strips only.
    """
    return joined([_encoded(path, vae, folder, priors_of(path, priors, paper), paper) for path in paths], reference)


def prepare_shard(codec: Path, folder: Path, priors: Path, paper: bool, path: Path) -> None:
    """Puts what ``drawings_of`` needs of one shard into its caches: work for a process of its own."""
    _encoded(path, _codec_of(codec), folder, priors_of(path, priors, paper), paper)


@cache
def _codec_of(path: Path) -> Codec:
    """Loaded once in a process."""
    return load_codec(path)


def _encoded(path: Path, vae: Codec, folder: Path, priors: Priors, paper: bool) -> Drawings:
    """One shard, from the caches if they are there: its strips, and what EPK makes of its pairs."""
    trials = read_shard(path)
    strips = load_or_make(folder / f"strips_{path.stem}.npz", lambda: _encode_strips(trials, vae, _number(path)))
    name = "paper" if paper else "epk"
    prior = load_or_make(
        folder / f"{name}_{path.stem}.npz", lambda: {"prior": _encode_prior(vae, priors.strips, paper)}
    )
    place = np.full(len(priors.before), -1)
    place[priors.has_prior] = np.arange(len(priors.has_prior))
    return Drawings(
        **strips,  # type: ignore[arg-type]
        **prior,  # type: ignore[arg-type]
        observed=trials.observed,
        exposure=trials.exposure,
        person=trials.person,
        hours=trials.hours,
        before=priors.before,
        after=priors.after,
        place=place,
    )


def _encode_strips(trials: Trials, vae: Codec, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    order = rng.random((len(trials), len(INDEPENDENT_LEADS))).argsort(axis=1)
    missing = order < rng.integers(1, 7, size=(len(trials), 1))
    latent = encode(vae, trials.strips, np.zeros_like(missing))
    masked = encode(vae, trials.strips, missing)
    return {"latent": latent, "masked": masked, "missing": missing, "decoded_intervals": measured_after(vae, latent)}


def _encode_prior(vae: Codec, strips: np.ndarray, paper: bool) -> np.ndarray:
    return strips if paper else encode(vae, strips, np.zeros((len(strips), len(INDEPENDENT_LEADS)), bool))


def load_or_make(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What is stored at ``path``; made and stored first where it is not."""
    if not path.is_file():
        write_npz(path, make())
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _number(path: Path) -> int:
    return int(path.stem.split("_")[1])


@torch.inference_mode()
def encode(vae: Codec, strips: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Latents ``(B, C, 128)`` float16 of strips ``(B, 8, 1024)`` [mV] that lack the ``missing (B, 8)`` leads."""
    parts = [np.zeros((0, *vae.latent_shape), np.float16)]
    for start in range(0, len(strips), CHUNK):
        rows = slice(start, start + CHUNK)
        signal = torch.from_numpy(strips[rows].astype(np.float32))
        parts.append(vae.encode(signal, torch.from_numpy(~missing[rows])).numpy().astype(np.float16))
    return np.concatenate(parts)


@torch.inference_mode()
def measured_after(vae: Codec, latent: np.ndarray) -> np.ndarray:
    """What is measured on decoded latents ``(B, C, 128)``: ``(B, len(OBSERVED))`` float32."""
    parts = [
        observe_strips(vae.decode(torch.from_numpy(latent[start : start + CHUNK].astype(np.float32))).numpy())
        for start in range(0, len(latent), CHUNK)
    ]
    return np.concatenate(parts).astype(np.float32)


def joined(parts: Sequence[Drawings], reference: str = "first") -> Drawings:
    """Shards one behind the other, their rows counted through; ``"last"`` keeps pairs of consecutive strips only."""
    strips = np.cumsum([0, *[len(part.latent) for part in parts]])
    priors = np.cumsum([0, *[len(part.prior) for part in parts]])
    column = {
        "before": [part.before + s for part, s in zip(parts, strips)],
        "after": [part.after + s for part, s in zip(parts, strips)],
        "place": [np.where(part.place >= 0, part.place + p, -1) for part, p in zip(parts, priors)],
    }
    whole = {
        f.name: np.concatenate(column.get(f.name) or [getattr(part, f.name) for part in parts])
        for f in fields(Drawings)
        if f.name != "real"
    }
    result = Drawings(**whole)  # type: ignore[arg-type]
    if reference == "last":
        near = result.after == result.before + 1
        result = Drawings(**{**whole, **{name: whole[name][near] for name in column}})
    return result


def with_real(virtual: Drawings, real: Drawings) -> Drawings:
    """Virtual pairs, and real ones behind them."""
    return replace(joined([virtual, real]), real=len(real))
