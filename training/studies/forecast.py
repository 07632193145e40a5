"""What the world model predicts about virtual patients it never met, beside what it must beat.

Asked of each held-out transition: how do heart rate, PR, QRS and QTcF change over the step? The prediction is a
distribution, K strips drawn and measured by the same delineator as the true strip, both after the codec. So: bias by
drug, correlation over patients, CRPS, and the ratio of the spread of samples to the error of their mean (1 is
calibrated, 0 says that the samples are copies). A strip whose interval cannot be measured is counted.

Beside it: no change at all; the mean change of the same treatment in the training patients; the model without its
anchor, with another patient's anchor, with another treatment's condition, and with an untreated one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecg_gym.core import ECG, MODEL_RATE_HZ
from ecg_gym.datasets.trials import TRUTHS, Trials
from ecg_gym.waveform import measure
from ecg_gym.world_model.conditioning import EPK_STRENGTH
from ecg_gym.world_model.forecaster import Forecaster, Known
from ecg_gym.world_model.model import WorldModel
from training.world_model import LatentTrials

CHANGES = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")
CHUNK = 64


def study(
    world: WorldModel, train: Trials, test: LatentTrials, k: int = 8, rows: int = 384, seed: int = 0
) -> dict[str, Any]:
    """The study's document on ``rows`` transitions of held-out patients, ``k`` strips drawn for each."""
    rng = np.random.default_rng(seed)
    take = np.sort(rng.permutation(len(test))[:rows])
    trials, before, after = test.trials[take], test.before[take], test.after[take]
    known = known_of(world.forecaster, trials, before)
    noise = rng.standard_normal((k, len(take), *world.latent_shape)).astype(np.float32)

    start, truth = measured(world, before), measured(world, after)
    others = rng.permutation(len(take))
    variants = {
        "model": known,
        "without anchor": known_of(world.forecaster, trials, before, anchor_scale=0.0),
        "anchor of another patient": replace(known, trace=known.trace[others], strength=known.strength[others]),
        "condition of another treatment": known_of(world.forecaster, _with_board_of(trials, others), before),
        "condition of no treatment": known_of(world.forecaster, _untreated(trials), before),
    }
    document: dict[str, Any] = {}
    for name, told in variants.items():
        draws = range(k if name == "model" else max(2, k // 2))
        drawn = np.stack([draw(world, told, noise[i]) for i in draws])
        after_step = np.stack([measured(world, latent) for latent in drawn])
        document[name] = scores(after_step - start, truth - start)
        if name == "model":
            document["by_treatment"] = by_treatment(trials, after_step - start, truth - start)
            document["held_out_only"] = scores(
                (after_step - start)[:, trials.held_out], (truth - start)[trials.held_out]
            )
            document["latent_mse"] = latent_errors(drawn, before, after)
    document["no change"] = scores(np.zeros((2, *truth.shape)), truth - start)
    document["mean of the treatment"] = scores(
        np.repeat(treatment_means(train, trials)[None], 2, axis=0), truth - start
    )
    return {
        "study": "forecast",
        "model_sha256": world.sha256,
        "n_patients": len(np.unique(trials.patient)),
        "n_transitions": len(take),
        "samples": k,
        "seeds": [seed],
        "data": ["virtual trials, test shards"],
        "metrics": document,
    }


def known_of(forecaster: Forecaster, trials: Trials, before: np.ndarray, anchor_scale: float = 1.0) -> Known:
    """What the network is told about stored transitions whose pre-dose latents are ``before``."""
    raw = trials.features.copy()
    column = trials.feature_names.index(EPK_STRENGTH)
    raw[:, column] *= anchor_scale
    condition = forecaster.features(raw, trials.feature_names)
    columns = (before, condition, trials.trace, raw[:, column])
    return Known(*(torch.from_numpy(np.asarray(c, dtype=np.float32)) for c in columns))


@torch.inference_mode()
def draw(world: WorldModel, known: Known, noise: np.ndarray) -> np.ndarray:
    """One next latent per row, ``(B, 4, 128)``, from its own noise."""
    parts: list[Tensor] = []
    for start in range(0, len(known), CHUNK):
        rows = slice(start, start + CHUNK)
        parts.append(
            world.forecaster.draw(
                known[rows], torch.from_numpy(noise[rows]), world.sampler, world.steps, bf16=world.backend == "bf16"
            )
        )
    return torch.cat(parts).numpy()


@torch.inference_mode()
def measured(world: WorldModel, latent: np.ndarray) -> np.ndarray:
    """The intervals ``(B, 4)``, columns ``CHANGES``, of decoded latents; NaN where they cannot be measured."""
    strips = [
        world.vae.decode(torch.from_numpy(latent[start : start + CHUNK])).numpy()
        for start in range(0, len(latent), CHUNK)
    ]
    return measure(ECG(np.concatenate(strips), MODEL_RATE_HZ)).as_array(CHANGES)


def scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    """Per interval, from samples of its change ``(K, B, 4)`` and the true change ``(B, 4)``.

    ``mae``, ``bias`` and ``correlation`` are of the mean of the samples, ``crps`` is of the samples (Gneiting 2007, the
    fair estimator), ``spread`` is the SD of samples over the error of their mean, both corrected for K. A transition
    counts when at least half of its samples could be measured; the others are ``n_failed``. ``unmeasured`` is the
    share of all samples that could not be, although the true change could.
    """
    found: dict[str, dict[str, float | int | None]] = {}
    for i, name in enumerate(CHANGES):
        known = np.isfinite(true[:, i])
        samples, truth = predicted[:, known, i], true[known, i]
        measured_of = np.isfinite(samples).sum(axis=0)
        ok = measured_of >= max(2, len(samples) / 2)
        found[name] = {"n": int(ok.sum()), "n_failed": int((~ok).sum())}
        found[name]["unmeasured"] = float(1 - measured_of.sum() / max(1, samples.size))
        if ok.sum() >= 10:
            found[name] |= _distribution_scores([s[np.isfinite(s)] for s in samples[:, ok].T], truth[ok])
    return found


def _distribution_scores(samples: Sequence[np.ndarray], truth: np.ndarray) -> dict[str, float | int | None]:
    """Scores of each transition's measured samples against its true change, averaged over transitions."""
    mean = np.array([s.mean() for s in samples])
    moves = mean.std() > 1e-9 and truth.std() > 1e-9
    crps = np.array([_fair_crps(s, t) for s, t in zip(samples, truth)])
    draws = np.random.default_rng(0).integers(len(crps), size=(1000, len(crps)))
    low, high = np.quantile(crps[draws].mean(axis=1), [0.025, 0.975])
    variance = np.mean([s.var(ddof=1) * (1 + 1 / len(s)) for s in samples])
    return {
        "mae": float(np.abs(mean - truth).mean()),
        "bias": float((mean - truth).mean()),
        "correlation": float(np.corrcoef(mean, truth)[0, 1]) if moves else None,
        "crps": float(crps.mean()),
        "crps_low": float(low),  # 95 % bootstrap interval over transitions
        "crps_high": float(high),
        "spread": float(np.sqrt(variance / np.mean((mean - truth) ** 2))),
    }


def _fair_crps(samples: np.ndarray, truth: float) -> float:
    k = len(samples)
    pairs = np.abs(samples[:, None] - samples).sum() / (2 * k * (k - 1))
    return float(np.abs(samples - truth).mean() - pairs)


def by_treatment(trials: Trials, predicted: np.ndarray, true: np.ndarray) -> dict[str, dict[str, Any]]:
    """Mean change per first-named drug, predicted and true, in rows given one drug (or nothing); pairs left out."""
    drug = np.array([_drug(words) for words in trials.treatment])
    table: dict[str, dict[str, Any]] = {}
    for name in sorted(set(drug) - {""}):
        rows = drug == name
        table[name] = {"n": int(rows.sum())}
        for i, interval in enumerate(CHANGES):
            samples, truth = predicted[:, rows, i].mean(axis=0), true[rows, i]
            ok = np.isfinite(samples) & np.isfinite(truth)
            if ok.any():
                table[name][interval] = {"predicted": float(samples[ok].mean()), "true": float(truth[ok].mean())}
    return table


def treatment_means(train: Trials, test: Trials) -> np.ndarray:
    """For each test row, the mean true change of the same drug in training patients, ``(B, 4)``; 0 for pairs."""
    column = [TRUTHS.index(name) for name in CHANGES]
    change = (train.truth_after - train.truth_before)[:, column]
    drug = np.array([_drug(words) for words in train.treatment])
    means = {name: np.nan_to_num(np.nanmean(change[drug == name], axis=0)) for name in set(drug) - {""}}
    return np.stack([means.get(_drug(words), np.zeros(len(CHANGES))) for words in test.treatment])


def latent_errors(drawn: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Mean squared errors of standardised latents; a perfect sampler has about twice the error of the perfect mean."""
    mean = drawn.mean(axis=0)
    return {
        "one sample": float(((drawn[0] - after) ** 2).mean()),
        f"mean of {len(drawn)} samples": float(((mean - after) ** 2).mean()),
        "copy": float(((before - after) ** 2).mean()),
        "zero": float((after**2).mean()),
        "mean latent": float(((after.mean(axis=0) - after) ** 2).mean()),
    }


def _drug(words: str) -> str:
    """The drug of a treatment of one dose, "watch and wait", or nothing for a pair."""
    if words == "watch and wait":
        return words
    return "" if " + " in words or " then " in words else words.split(" ", 1)[0]


def _with_board_of(trials: Trials, rows: np.ndarray) -> Trials:
    """The same transitions, told that what is on board afterwards is what other rows have on board."""
    raw = trials.features.copy()
    columns = [i for i, name in enumerate(trials.feature_names) if name.startswith("after.")]
    raw[:, columns] = trials.features[rows][:, columns]
    return replace(trials, features=raw)


def _untreated(trials: Trials) -> Trials:
    """The same transitions, told that what is on board afterwards is what was there before."""
    raw, names = trials.features.copy(), trials.feature_names
    for i, name in enumerate(names):
        if name.startswith("after."):
            raw[:, i] = trials.features[:, names.index(name.replace("after.", "before.", 1))]
    return replace(trials, features=raw)


def lines(document: Mapping[str, Any]) -> list[str]:
    """The study in a few lines of text, a row per variant and interval."""
    metrics, shown = document["metrics"], []
    for variant, found in metrics.items():
        if variant in ("by_treatment", "latent_mse"):
            continue
        for name, score in found.items():
            numbers = "  ".join(f"{key} {value:.2f}" for key, value in score.items() if isinstance(value, float))
            shown.append(f"{variant:32s} {name:8s} n {score['n']:4d} failed {score['n_failed']:3d}  {numbers}")
    for drug, row in metrics["by_treatment"].items():
        pairs = "  ".join(f"{n} {row[n]['predicted']:+.1f}/{row[n]['true']:+.1f}" for n in CHANGES if n in row)
        shown.append(f"{drug:24s} n {row['n']:4d}  predicted/true  {pairs}")
    return [*shown, "latent MSE: " + ", ".join(f"{n} {v:.3f}" for n, v in metrics["latent_mse"].items())]
