"""Do drawn strips look real? Zero-dose futures of held-out people beside strips of the truth, one hour later each.

A classifier tells them apart as well as it can (AUROC; 0.5 is best, the goal is below 0.65), all together and by
rhythm; in the features of the findings network stand Fréchet's distance, precision and recall. Beside ours as it ships
stand latent diffusion, the codec alone (a round trip of the true strip), a second draw of the truth (the floor of every
score), and each rival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ecg_gym.core import State, World, independent_from_leads
from ecg_gym.powers import Truthful
from training.evaluation import questions, result
from training.evaluation.questions import Questions, futures, observe_first, strips
from training.evaluation.result import Size, metric
from training.evaluation.world_model.baselines import Rivals
from training.evaluation.world_model.calibration import numbered
from training.evaluation.world_model.realism_scores import (
    auroc,
    drawn_scores,
    embedded,
    frechet,
    precision_recall,
    projection,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=400, samples=1), Size(patients=24, samples=1)
OURS, DIFFUSION, CODEC, AGAIN = "ours, drawn", "ours, latent diffusion", "the codec alone", "truth again"
QUICK_STEPS = 20  # of the classifier
FEWEST = 8  # strips of a rhythm whose AUROC is shown
GROUPS = {"sinus": "sinus", "af": "atrial fibrillation"}

Progress = Callable[[int], None]


def answers_of(size: Size, quick: bool = False, worlds: int = 0) -> int:
    """How many strips are drawn, for a progress bar."""
    return (4 + worlds) * size.patients * len(size.seeds)


def study(
    world: World, truth: World, size: Size = USUAL, quick: bool = False, progress: Progress = lambda n: None,
    rivals: Rivals | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document."""
    parts = [numbered(questions.transitions(truth, size.patients, s).placebo, s) for s in size.seeds]
    queries = questions.joined(parts)
    real, again = (_strips(truth, queries.start, queries, stream, progress) for stream in ("true", "again"))
    sets = {OURS: _strips(world, observe_first(world, queries), queries, "model", progress)}
    if is_dataclass(world) and hasattr(world, "drawing"):
        diffusion = replace(world, draws="diffusion")
        sets[DIFFUSION] = _strips(diffusion, observe_first(diffusion, queries), queries, "model", progress)
        sets[CODEC] = _round_trip(world, real)
    sets[AGAIN] = again
    for name, columns in (rivals or Rivals()).worlds.items():
        sets |= {
            f"{name}, {column}": _strips(by, observe_first(by, queries), queries, "model", progress)
            for column, by in columns.items()
        }
    group, steps = rhythms(truth, queries), {"steps": QUICK_STEPS} if quick else {}
    tables = {name: _scores(real, synthetic, queries.patient, group, steps) for name, synthetic in sets.items()}
    metrics = {
        score: metric(
            tables[OURS][score],
            baselines={name: table[score] for name, table in tables.items() if name != OURS and score in table},
        )
        for score in tables[OURS]
    }
    rows = [{"row": name, **{score: one["value"] for score, one in table.items()}} for name, table in tables.items()]
    return result.document(
        "realism", world, len(np.unique(queries.patient)), size.seeds, metrics, rows,
        rhythms={name: int((group == name).sum()) for name in np.unique(group)},
    )  # fmt: skip


def rhythms(truth: World, queries: Questions) -> np.ndarray:
    """ "sinus", "af" or "other" ``(N,)``, by the truth; all sinus where it says nothing."""
    if not isinstance(truth, Truthful):
        return np.full(len(queries), "sinus")
    names = np.array([str(facts.rhythm) for facts in truth.truth(queries.start)])
    return np.where(np.isin(names, list(GROUPS)), names, "other")


def _strips(world: World, start: State, queries: Questions, stream: str, progress: Progress) -> np.ndarray:
    """One zero-dose future of everybody ``(N, 8, 1024)`` [mV]."""
    strips_mv = futures(world, start, queries, 1, strips, stream=stream, progress=progress, keep=False)["ecg"][0]
    return independent_from_leads(strips_mv).astype(np.float32)


@torch.inference_mode()
def _round_trip(world: Any, real: np.ndarray) -> np.ndarray:
    drawing = world.drawing
    latent = drawing.encode(real, np.ones(real.shape[:2], bool))
    return independent_from_leads(drawing.decode(latent)).astype(np.float32)


def _scores(
    real: np.ndarray, synthetic: np.ndarray, patient: np.ndarray, group: np.ndarray, how: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Every score of a set of strips beside the real ones of the same people, ``{value, ci95}`` each."""
    lives = np.abs(real).max(axis=(1, 2)) > 0
    lives &= np.abs(synthetic).max(axis=(1, 2)) > 0
    logits = drawn_scores(real[lives], synthetic[lives], patient[lives], **how)
    table = {"auroc": auroc(logits, patient[lives])}
    for name in ("sinus", "af", "other"):
        mine = group[lives] == name
        if mine.sum() >= FEWEST:
            table[f"auroc_{name}"] = auroc(logits[:, mine], patient[lives][mine])
    features = embedded(real[lives])
    onto = projection(features)
    a, b = onto(features), onto(embedded(synthetic[lives]))
    precision, recall = precision_recall(a, b)
    point = {"frechet": frechet(a, b), "precision": precision, "recall": recall}
    return table | {name: {"value": value, "ci95": None} for name, value in point.items()}


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per set of strips, for people."""
    return list(document["rows"])


def figure(document: Mapping[str, Any]) -> Figure:
    """AUROC and Fréchet's distance of every set of strips."""
    from matplotlib.figure import Figure

    rows = document["rows"][::-1]
    picture = Figure(figsize=(9, 0.32 * len(rows) + 1.5), layout="constrained")
    axes = picture.subplots(1, 2, sharey=True)
    for ax, score, line in zip(axes, ("auroc", "frechet"), (0.65, None)):
        ax.barh([row["row"] for row in rows], [row[score] or 0.0 for row in rows], color="tab:blue")
        ax.set_xlabel(score)
        if line is not None:
            ax.axvline(line, color="black", ls="--", lw=0.8)
            ax.set_xlim(0.4, 1.0)
    return picture
