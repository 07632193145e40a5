"""Does a strip show what the state says? Futures are foretold, drawn when looked at, and read again.

People of every situation of the environment, and anybody, take one step in the learned world. Every future is drawn as
the world draws (its own beats moved, unless it is told otherwise), by latent diffusion, asked again less its own error,
and by latent diffusion once; each is measured and read by the findings network. Beside them stand a copy of the first
strip, and what the codec alone makes of that strip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import LEADS, State, World, concatenate
from ecg_gym.risk.classifier import reader
from ecg_gym.world_model.conditioning import OBSERVED, observe_strips
from training.evaluation import result
from training.evaluation.questions import at_step, generator, held_out_patients, joined, observe_first, transitions
from training.evaluation.result import Size, estimate_mean, estimate_ratio, metric
from training.train_denoiser import scenario_starts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=400, samples=1), Size(patients=40, samples=1)
MISSES = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")
SHIPPED, DIFFUSION, ONCE = "as shipped", "diffusion", "diffusion, asked once"
COPY, CODEC = "copy of the first strip", "the codec alone"
SIGNS = ("p_present", "regular")
GROUPS = {"sinus": "sinus rhythm", "af": "atrial fibrillation", "rare": "other rhythms"}
EXAMPLES = 8  # strips that the document holds, for a picture
_AT = {name: i for i, name in enumerate(OBSERVED)}

Progress = Callable[[int], None]


def answers_of(size: Size, quick: bool = False) -> int:
    """How many futures are drawn, for a progress bar."""
    return 3 * size.patients * len(size.seeds)


def study(
    world: World, truth: World, size: Size = USUAL, quick: bool = False, progress: Progress = lambda n: None
) -> dict[str, Any]:
    """The study's document; ValueError for a world that draws nothing (it has no ``draws`` and ``corrections``)."""
    if not (is_dataclass(world) and hasattr(world, "draws") and hasattr(world, "corrections")):
        raise ValueError(
            f"the world is a {type(world).__name__}, whose strips are not drawn from what it says; expected a world "
            "model with draws and corrections; pass --model with its weights, or leave it out for the package's"
        )
    parts = [_futures(world, truth, size.patients, seed) for seed in size.seeds]
    start, later = (concatenate([part[i] for part in parts]) for i in (0, 1))
    rhythm, patient = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
    target, strips_of = np.asarray(later.inner["observed"], float), dict[str, np.ndarray]()
    own: str = world.draws
    for name, way, corrections in ((SHIPPED, own, world.corrections), (DIFFUSION, "diffusion", world.corrections),
                                   (ONCE, "diffusion", 0)):  # fmt: skip
        strips_of[name] = replace(world, draws=way, corrections=corrections).drawing(later.replaced())
        progress(len(later))
    first = np.asarray(start.inner["baseline_observed"], float)
    read = {name: observe_strips(strips).astype(float) for name, strips in strips_of.items()} | {COPY: first}
    error = {name: values - target for name, values in read.items()}
    error[CODEC] = observe_strips(world.drawing.reconstruct(start.inner["baseline"])).astype(float) - first
    group = np.select([rhythm == "sinus", rhythm == "af"], ["sinus", "af"], "rare")
    metrics = _misses(error, group, patient)
    foretold = np.asarray(later.inner["findings"])
    findings = {name: reader("").probabilities(strips) for name, strips in strips_of.items()}
    findings[COPY] = np.asarray(start.inner["baseline_findings"])
    agreed = {name: _kappa(foretold, values, patient) for name, values in findings.items()}
    metrics["findings_kappa"] = metric(agreed.pop(SHIPPED), baselines=agreed)
    turned = {name: _turned(target, values) for name, values in read.items()}
    metrics["turned"] = metric(
        estimate_mean(turned[SHIPPED], patient),
        baselines={name: estimate_mean(values, patient) for name, values in turned.items() if name != SHIPPED},
    )
    rows = [_row(str(name), rhythm == name, {k: v[rhythm == name] for k, v in error.items() if k != CODEC}, turned)
            for name in np.unique(rhythm)]  # fmt: skip
    indices = _rows_to_show(rhythm)
    examples = [
        {"rhythm": str(rhythm[i]), "first": _lead(start.ecg[i]), "drawn": _lead(strips_of[SHIPPED][i]),
         "said": _levels(target[i]), "read": _levels(read[SHIPPED][i])}
        for i in indices
    ]  # fmt: skip
    document = result.document("drawing", world, len(np.unique(patient)), size.seeds, metrics, rows, draws=own)
    return {**document, "examples": examples}


def _futures(world: World, truth: World, patients: int, seed: int) -> tuple[State, State, np.ndarray, np.ndarray]:
    """First strips and states one step later of people who live, each with the true rhythm at the start."""
    starts = scenario_starts(1)
    each = max(1, patients // (2 * len(starts)))
    parts = [transitions(truth, patients - each * len(starts), seed)]
    for number, situation in enumerate(starts):
        people = held_out_patients(truth, each, 1000 * (seed + 1) + number, **situation.who)
        others = transitions(truth, each, 1000 * (seed + 1) + number)  # whose treatments and steps these people get
        n = min(len(people), len(others))
        parts.append(replace(others[np.arange(n)], start=people[:n]))
    whole = joined([replace(part, earlier=(), looks=None) for part in parts])
    questions = replace(whole, patient=np.arange(len(whole)), looks=None)
    rhythm = np.array([str(row.rhythm) for row in truth.truth(questions.start)])  # type: ignore[attr-defined]
    start = observe_first(world, questions)
    stepped: list[State] = []
    order: list[np.ndarray] = []
    for hours in np.unique(questions.dt_hours):
        rows = np.flatnonzero(questions.dt_hours == hours)
        noise = [generator("model", seed, int(i), 0) for i in questions.patient[rows]]
        treatments = [questions.treatments[i] for i in rows]
        stepped.append(at_step(world, float(hours)).step(start[rows], treatments, noise))
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    later = concatenate(stepped)[back]
    alive = np.flatnonzero(later.alive & np.isfinite(later.inner["observed"][:, _AT["hr_bpm"]]))
    return start[alive], later[alive], rhythm[alive], questions.patient[alive] + 1_000_000 * seed


def _misses(error: Mapping[str, np.ndarray], group: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    """Mean and median distance of what is read from what was said, and its bias, by group of rhythms."""
    metrics = {}
    for name, words in GROUPS.items():
        rows = np.flatnonzero(group == name)
        if not len(rows):
            continue
        for level in MISSES:
            off = {way: values[rows, _AT[level]] for way, values in error.items()}
            mean = {way: estimate_mean(np.abs(values), patient[rows]) for way, values in off.items()}
            metrics[f"{name}_{level}"] = metric(mean.pop(SHIPPED), baselines=mean, rhythms=words)
            middle = {way: float(np.nanmedian(np.abs(values))) for way, values in off.items() if _some(values)}
            if SHIPPED in middle:
                metrics[f"{name}_{level}_median"] = metric(middle.pop(SHIPPED), baselines=middle)
            bias = {way: estimate_mean(values, patient[rows]) for way, values in off.items()}
            metrics[f"{name}_{level}_bias"] = metric(bias.pop(SHIPPED), baselines=bias)
    return metrics


def _some(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _turned(target: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Whether a strip shows another rhythm than was said ``(B,)``: P waves or regularity come or go."""
    return np.any([(target[:, _AT[s]] > 0.5) != (read[:, _AT[s]] > 0.5) for s in SIGNS], axis=0).astype(float)


def _kappa(foretold: np.ndarray, read: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    """Cohen's kappa of findings at 0.5, all 17 together, people as clusters."""
    a, b = (np.asarray(values) >= 0.5 for values in (foretold, read))
    share_a, share_b = a.mean(axis=0), b.mean(axis=0)
    chance = share_a * share_b + (1 - share_a) * (1 - share_b)
    above = (a == b).sum(axis=1) - chance.sum()
    return estimate_ratio(above, np.full(len(a), (1 - chance).sum()), patient)


def _row(rhythm: str, mine: np.ndarray, error: Mapping[str, np.ndarray], turned: Mapping[str, np.ndarray]) -> Any:
    row: dict[str, Any] = {"rhythm": rhythm, "strips": int(mine.sum()), "turned": float(turned[SHIPPED][mine].mean())}
    for level in MISSES:
        off = np.abs(error[SHIPPED][:, _AT[level]])
        row[level] = float(np.nanmean(off)) if _some(off) else None
    return row


def _rows_to_show(rhythm: np.ndarray) -> list[int]:
    """Rows for a picture: one of each rhythm, the rarest first."""
    names, first, often = np.unique(rhythm, return_index=True, return_counts=True)
    return [int(i) for i in first[np.argsort(often)][:EXAMPLES]] if len(names) else []


def _lead(strip: np.ndarray, lead: str = "II") -> list[float]:
    return [round(float(value), 3) for value in strip[LEADS.index(lead)]]


def _levels(row: np.ndarray) -> dict[str, float | None]:
    return {name: float(row[_AT[name]]) if np.isfinite(row[_AT[name]]) else None for name in MISSES}


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per level and group, for people."""
    lines = []
    for name, row in document["metrics"].items():
        if not name.endswith("_bias"):
            lines.append({"miss": name, SHIPPED: row["value"], "ci95": row["ci95"],
                          **{way: row["baselines"].get(way) for way in (DIFFUSION, ONCE, COPY, CODEC)}})  # fmt: skip
    return lines


def figure(document: Mapping[str, Any]) -> Figure:
    """One person of each rhythm: the first strip, and the future as it is drawn, with what was said and read."""
    from matplotlib.figure import Figure

    from ecg_gym.core import MODEL_RATE_HZ

    examples = document["examples"]
    picture = Figure(figsize=(11, 1.6 * max(1, len(examples))), layout="constrained")
    panels = picture.subplots(max(1, len(examples)), 1, sharex=True, squeeze=False)[:, 0]
    for panel, one in zip(panels, examples):
        seconds = np.arange(len(one["drawn"])) / MODEL_RATE_HZ
        panel.plot(seconds, np.array(one["first"]) + 2.0, color="0.6", lw=0.7, label="first strip (2 mV above)")
        panel.plot(seconds, one["drawn"], color="tab:red", lw=0.8, label="future, drawn")
        panel.set_title(
            f"{one['rhythm']}: said {_text(one['said'])}; read {_text(one['read'])}", fontsize=8, loc="left"
        )
        panel.set_ylabel("II [mV]")
    panels[0].legend(fontsize=7, ncols=2, loc="upper right")
    panels[-1].set_xlabel("time [s]")
    return picture


def _text(levels: Mapping[str, float | None]) -> str:
    return ", ".join(f"{n.split('_')[0].upper()} {'?' if v is None else f'{v:.0f}'}" for n, v in levels.items())
