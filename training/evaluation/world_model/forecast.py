"""What the model predicts of patients it never met, in latents, millivolts and intervals, beside what it must beat.

Questions are those of ``study calibration``. Latent errors are of standardised latents (variance 1), signal errors of
12-lead strips in mV: each drawn strip is compared with the true one, and errors are averaged over samples; the mean of
samples is no ECG (its error is given as ``of_mean``). Strips begin at the same place before an R peak but their later
beats fall where chance puts them, so two true futures of one heart differ too: ``another true future`` is the floor,
and the first beat alone (``first_beat_mae_mv``), which is aligned, says more. CRPS is of measured interval changes.

Beside the model: copying the strip before, the mean of other patients, a flat line, population pharmacology drawn
without a network (EPK alone); and the model itself without the EPK anchor, with the waves of another patient in it,
told nothing of pharmacology, told of another drug, and told of placebo. ``prognosis alone`` is what the model drew
before it drew strips: the intervals that were asked for, not measured.

The paper's Table 1 reports a latent MSE of 0.045 and a signal MAE of 0.110 mV. Not comparable: other latents
(predicting zero scores about 0.03 in those it builds on), other people, and a flat line scores about 0.110 mV there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import MODEL_RATE_HZ, State, World
from ecg_gym.yaml_files import read_yaml
from training.evaluation import questions as harness
from training.evaluation import result
from training.evaluation.questions import (
    INTERVALS,
    SHORT,
    Questions,
    both,
    fair_crps,
    futures,
    measure_step,
    observe_first,
)
from training.evaluation.result import Size, estimate_mean, metric
from training.evaluation.world_model.calibration import baselines, numbered
from training.evaluation.world_model.delta_risk import wrong_treatments
from training.evaluation.world_model.intervals import PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=160, samples=8), Size(patients=20, samples=4)
REFERENCE = 320  # other patients that baselines learn from
FUTURES = 2  # true futures of one heart: the one asked about, and the floor
FIRST_BEAT_S = 0.9  # R is at 0.4 s in every strip
POINTS = ("latent_mse", "signal_mae_mv", "first_beat_mae_mv")
VARIANTS = ("no EPK", "shuffled EPK", "no pharmacology", "wrong drug", "placebo")

StepInputs = Callable[[int], None]
Errors = dict[str, np.ndarray]  # metric -> (N,)


def study(
    world: World,
    truth: World,
    size: Size = USUAL,
    quick: bool = False,
    progress: StepInputs = lambda n: None,
    draw: harness.Draw | None = None,
) -> dict[str, Any]:
    """The study's document. Latent errors need a world with ``vae``; without one they are left out."""
    queries = harness.joined([numbered(harness.transitions(truth, size.patients, s, draw=draw), s) for s in size.seeds])
    other = harness.transitions(truth, 3 * SMALL.patients if quick else REFERENCE, 0, "validation", draw=draw)
    look = both(harness.strips, measure_step)
    real = futures(truth, queries.start, queries, FUTURES, look, stream="true", progress=progress, keep=False)
    coded = encode(world, real["ecg"][0])
    goal = (real["ecg"][0], coded, real["intervals"][0] - harness.intervals_of(queries.start.ecg))
    results: dict[str, Errors] = {"model": model_errors(world, queries, size.samples, goal, progress)}
    if harness.draws_intervals_first(world):
        results["prognosis alone"] = prognosis_errors(world, queries, size.samples, goal[2], progress)
    for name, row, questions, start in variants(world, queries):
        results[name] = model_errors(row, questions, max(2, size.samples // 2), goal, progress, start)
    results |= point_rivals(world, truth, queries, other, real["ecg"], goal, progress)
    for name, by in baselines(truth, queries, other, None, progress).items():
        scored = {f"crps_{SHORT[q]}": fair_crps(by[q], goal[2][:, i]) for i, q in enumerate(INTERVALS)}
        results.setdefault(name, {}).update(scored)
    return result.document(
        "forecast",
        world,
        len(np.unique(queries.patient)),
        size.seeds,
        metrics(results, queries.patient),
        [{"who": name, **{key: _mean(values) for key, values in by.items()}} for name, by in results.items()],
        samples=size.samples,
        n_questions=len(queries),
        n_held_out=int(queries.held_out.sum()),
        paper={name: read_yaml(PAPER)[name] for name in POINTS[:2]},
    )


def answers_of(size: Size, quick: bool = False) -> int:
    """About how many questions are answered, for a progress bar."""
    queries = size.patients * len(size.seeds)
    return (2 + len(VARIANTS)) * queries + 2 * (3 * SMALL.patients if quick else REFERENCE)


def variants(world: World, queries: Questions) -> list[tuple[str, World, Questions, State]]:
    """The model with something taken from it, and what it starts from; knobs it does not have are left out."""
    knobs: set[str] = {field.name for field in fields(world)} if is_dataclass(world) else set()
    start = observe_first(world, queries)
    results: list[tuple[str, World, Questions, State]] = []
    if "epk_scale" in knobs:
        results.append(("no EPK", replace(world, epk_scale=0.0), queries, start))  # type: ignore[type-var]
    if "fit" in start.inner:
        results.append(("shuffled EPK", world, queries, shuffled(start, queries.patient)))
    if "believed" in knobs:
        deaf = replace(world, believed=unmoved)  # type: ignore[type-var]
        results.append(("no pharmacology", deaf, queries, start))
    return [
        *results,
        ("wrong drug", world, wrong_treatments(queries), start),
        ("placebo", world, queries.placebo, start),
    ]


def unmoved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What pharmacology would say if nothing ever changed; for ``WorldModel.believed``."""
    return before


def shuffled(start: State, patient: np.ndarray) -> State:
    """The same patients with the fitted waves of others: everybody gets those of the next patient in the table."""
    who, place = np.unique(patient, return_inverse=True)
    first = np.array([np.flatnonzero(place == i)[0] for i in range(len(who))])
    return replace(start, inner={**start.inner, "fit": start.inner["fit"][np.roll(first, -1)[place]]})


def prognosis_errors(world: World, queries: Questions, k: int, goal: np.ndarray, progress: StepInputs) -> Errors:
    """CRPS ``(N,)`` of the intervals that the model ordered before it drew."""
    samples = futures(world, observe_first(world, queries), queries, k, harness.ordered, progress=progress, keep=False)[
        "asked"
    ]
    change = samples - harness.intervals_of(queries.start.ecg)
    return {f"crps_{SHORT[q]}": fair_crps(change[..., i], goal[:, i]) for i, q in enumerate(INTERVALS)}


def model_errors(
    world: World,
    queries: Questions,
    k: int,
    goal: tuple[np.ndarray, np.ndarray | None, np.ndarray],
    progress: StepInputs,
    start: State | None = None,
) -> Errors:
    """Errors ``(N,)`` of a world's futures by metric."""
    latent = hasattr(world, "vae")
    look = both(harness.strips, measure_step, *([harness.latents_in(world)] if latent else []))
    samples = futures(world, start or observe_first(world, queries), queries, k, look, progress=progress, keep=False)
    errors = strip_errors(samples["ecg"], goal[0])
    if latent and goal[1] is not None:
        errors["latent_mse"] = ((samples["latent"] - goal[1]) ** 2).mean(axis=(0, 2, 3))
        errors["latent_mse_of_mean"] = ((samples["latent"].mean(axis=0) - goal[1]) ** 2).mean(axis=(1, 2))
    change = samples["intervals"] - harness.intervals_of(queries.start.ecg)
    return errors | {f"crps_{SHORT[q]}": fair_crps(change[..., i], goal[2][:, i]) for i, q in enumerate(INTERVALS)}


def strip_errors(samples: np.ndarray, true: np.ndarray) -> Errors:
    """Mean absolute errors [mV] of strips ``(K, N, 12, 1024)`` against the true ones ``(N, 12, 1024)``."""
    first = slice(0, round(FIRST_BEAT_S * MODEL_RATE_HZ))
    errors = np.stack([np.abs(strips - true).mean(axis=(1, 2)) for strips in samples])
    beat = np.stack([np.abs(strips - true)[..., first].mean(axis=(1, 2)) for strips in samples])
    results = {"signal_mae_mv": errors.mean(axis=0), "first_beat_mae_mv": beat.mean(axis=0)}
    if len(samples) > 1:
        results["signal_mae_mv_of_mean"] = np.abs(samples.mean(axis=0) - true).mean(axis=(1, 2))
    return results


def encode(world: Any, ecg: np.ndarray) -> np.ndarray | None:
    """Standardised latents ``(N, C, 128)`` of strips ``(N, 12, 1024)`` [mV]; ``None`` for a world without a codec."""
    if not hasattr(world, "vae"):
        return None
    import torch

    with torch.inference_mode():
        parts = [world.vae.encode(torch.from_numpy(np.ascontiguousarray(chunk))) for chunk in _chunks(ecg)]
        return torch.cat(parts).float().numpy()


def decode(world: Any, latent: np.ndarray) -> np.ndarray:
    """Strips ``(N, 12, 1024)`` [mV] of standardised latents ``(N, C, 128)``."""
    import torch

    with torch.inference_mode():
        parts = [world.vae.decode(torch.from_numpy(np.ascontiguousarray(chunk))) for chunk in _chunks(latent)]
        return torch.cat(parts).float().numpy()


def _chunks(rows: np.ndarray, size: int = 64) -> list[np.ndarray]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def point_rivals(
    world: World,
    truth: World,
    queries: Questions,
    other: Questions,
    real: np.ndarray,
    goal: tuple[np.ndarray, np.ndarray | None, np.ndarray],
    progress: StepInputs,
) -> dict[str, Errors]:
    """Errors of forecasts that are one strip, the same for every sample: copies, means, nothing, pharmacology."""
    theirs = futures(truth, other.start, other, 1, harness.strips, stream="true", progress=progress, keep=False)
    mean = theirs["ecg"][0].mean(axis=0)
    rows = {
        "copy pre-dose": queries.start.ecg,
        "population mean": np.broadcast_to(mean, goal[0].shape),
        "flat": np.zeros_like(goal[0]),
        "EPK alone": harness.pharmacology_strips(queries),
        "another true future": real[1],
    }
    results = {name: strip_errors(strips[None], goal[0]) for name, strips in rows.items()}
    if goal[1] is None:
        return results
    coded = {name: encode(world, np.array(strips)) for name, strips in rows.items() if name != "flat"}
    there = encode(world, theirs["ecg"][0])
    assert there is not None
    coded |= {"population mean": there.mean(axis=0)[None], "flat": encode(world, np.zeros_like(goal[0][:1]))}
    for name, latent in coded.items():
        assert latent is not None
        results[name]["latent_mse"] = ((latent - goal[1]) ** 2).mean(axis=(1, 2))
    results["zero latent"] = {"latent_mse": (goal[1] ** 2).mean(axis=(1, 2))}
    results["codec alone"] = strip_errors(decode(world, goal[1])[None], goal[0])
    return results


def metrics(errors: Mapping[str, Errors], patients: np.ndarray) -> dict[str, Any]:
    """The model's errors, each beside everybody's who has one."""
    out = {}
    for name in (*POINTS, *(f"crps_{SHORT[q]}" for q in INTERVALS)):
        if name not in errors["model"]:
            continue
        each = {who: estimate_mean(by[name], patients, 300) for who, by in errors.items() if name in by}
        out[name] = metric(each.pop("model"), baselines=each)
        if f"{name}_of_mean" in errors["model"]:
            out[name]["of_mean"] = _mean(errors["model"][f"{name}_of_mean"])
    return out


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per forecaster, without the errors of means."""
    return [{key: value for key, value in row.items() if not key.endswith("_of_mean")} for row in document["rows"]]


def figure(document: Mapping[str, Any]) -> Figure:
    """Each metric as bars, the model in red, its crippled selves in orange, floors in black."""
    from matplotlib.figure import Figure

    names = [name for name in (*POINTS, "crps_hr", "crps_pr", "crps_qrs", "crps_qtcf") if name in document["metrics"]]
    samples = Figure(figsize=(15, 8), layout="constrained")
    axes = np.atleast_1d(samples.subplots(2, 4)).ravel()
    floors = ("another true future", "codec alone")
    for ax, name in zip(axes, names):
        row = document["metrics"][name]
        values = {"model": row["value"], **row["baselines"]}
        who = [w for w in values if values[w] is not None][::-1]
        colours = [
            "tab:red" if w == "model" else "tab:orange" if w in VARIANTS else "black" if w in floors else "lightgray"
            for w in who
        ]
        ax.barh(who, [values[w] for w in who], color=colours)
        ax.tick_params(axis="y", labelsize=7)
        ax.set_title(f"{name}, lower is better", fontsize=9)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    samples.suptitle(
        f"Forecasts of {document['n_patients']} held-out patients, {document['settings']['samples']} samples each"
    )
    return samples
