"""Our model beside its rivals: other generators of strips, trained on the same pairs with the same budget.

Questions are transitions of people whom no training met. Each rival stands twice: alone, and with our interval
forecast, which also says the intervals that the strip shall have; a rival is judged by what is measured on its strips.
Beside them stand a copy of the strip before, the majority class, population pharmacology with other patients' errors,
and our model: by what it says, by the strips that it draws as it ships, and by latent diffusion, the paper's way.

A row *works* when it listens (the treatments of other patients make its CRPS worse, with the 95 % interval above 0) and
its spread exceeds 0.2 of the true one, which is that of the futures of other people with the same heart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.datasets.transitions import read_shard, shard_paths
from training.evaluation import questions, result
from training.evaluation.questions import INTERVALS, SHORT, futures, intervals_of, measure_step
from training.evaluation.result import Size, metric
from training.evaluation.world_model.baseline_answers import (
    Answer,
    drift_of_truth,
    of_words,
    of_world,
    settings_of,
    trivial,
)
from training.evaluation.world_model.baseline_scores import Estimates, majority, scores, verdict
from training.evaluation.world_model.calibration import numbered, variance_of
from training.rivals.catalogue import all_words, words_of
from training.rivals.world import WEIGHTS, RivalWorld

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=160, samples=8), Size(patients=12, samples=4)
FUTURES = 4  # true futures of one heart, and of other people with the same heart
REFERENCE = 160  # other patients, whose errors pharmacology is dressed with
DRIFTED = 32  # people of the drift
MOST_STRIPS = 4000  # training strips that the nearest one is searched among
OURS, COPY, MAJORITY = "ours", "copy", "majority class"
ALONE, FORECAST = "alone", "with our forecast"
COLUMNS = (
    "crps_hr", "crps_pr", "crps_qrs", "crps_qtcf", "spread_qtcf", "coverage_qtcf", "correlation_qtcf",
    "accuracy_qtcb", "recall_qtcb", "balanced_accuracy_qtcb", "wrong_drug_gap", "drift_qtcf_ms", "unmeasured", "cpu_ms",
)  # fmt: skip

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Rivals:
    """The rivals by name, each with its columns, and strips that they learned from."""

    worlds: Mapping[str, Mapping[str, World]] = field(default_factory=dict)  # name -> column -> world
    training: np.ndarray | None = None  # (S, 8, 1024) [mV]


def load_rivals(folders: list[Path], ours: Any, shards: Path | None) -> Rivals:
    """The rivals whose weights lie in these folders or right below them, and the strips of training shards."""
    paths = [path for folder in folders for path in (folder, *sorted(folder.glob("*"))) if (path / WEIGHTS).is_file()]
    if folders and not paths:
        raise ValueError(
            f"{[str(folder) for folder in folders]} hold no {WEIGHTS}; expected folders of `ecg-gym train baseline`; "
            "train one first, or leave --rivals out"
        )
    worlds = {}
    for path in paths:
        alone = RivalWorld.load(path, ours)
        worlds[str(alone.metadata["title"])] = {ALONE: alone, FORECAST: replace(alone, with_forecast=True)}
    return Rivals(worlds, None if shards is None else training_strips(shards))


def with_chat(rivals: Rivals, chat: World) -> Rivals:
    """The same, and a language model that says the intervals, in one column."""
    return replace(rivals, worlds={**rivals.worlds, words_of("llm").title: {ALONE: chat}})


def training_strips(shards: Path) -> np.ndarray:
    """Strips ``(S, 8, 1024)`` float32 [mV] of the training shards in a folder, at most ``MOST_STRIPS``."""
    parts = [read_shard(path) for path in shard_paths(shards, "train")]
    strips = np.concatenate([part.strips[part.alive] for part in parts])
    return strips[:: max(1, len(strips) // MOST_STRIPS)].astype(np.float32)


def answers_of(size: Size, quick: bool = False, worlds: int = 0) -> int:
    """How many questions are answered, for a progress bar."""
    return (2 * (worlds + 3) + 2) * size.patients * len(size.seeds)


def study(
    world: World, truth: World, size: Size = USUAL, quick: bool = False, progress: Progress = lambda n: None,
    rivals: Rivals | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The study's document."""
    rivals = rivals or Rivals()
    queries = questions.joined([numbered(questions.transitions(truth, size.patients, s), s) for s in size.seeds])
    before = intervals_of(queries.start.ecg)
    true = futures(truth, queries.start, queries, FUTURES, measure_step, stream="true", progress=progress)["intervals"]
    lost = questions.futures_of_other_patients(truth, queries, FUTURES, measure_step, progress=progress)
    spread = None if lost is None else np.stack([variance_of(lost["intervals"][..., i]) for i in _EVERY], axis=1)
    drift = drift_of_truth(truth, size.patients // 4 if quick else DRIFTED, size.seeds[0])
    other = questions.transitions(truth, 2 * SMALL.patients if quick else REFERENCE, 0, "validation")

    def of_strips(by: World) -> Answer:
        return of_world(by, queries, size.samples, drift, rivals.training, progress)

    answers = {OURS: of_words(world, queries, size.samples, progress), f"{OURS}, drawn": of_strips(world)}
    if is_dataclass(world) and getattr(world, "draws", "diffusion") != "diffusion":
        answers[f"{OURS}, latent diffusion"] = of_strips(replace(world, draws="diffusion"))
    answers |= trivial(truth, queries, other)
    for name, columns in rivals.worlds.items():
        answers |= {f"{name}, {column}": of_strips(by) for column, by in columns.items()}
    tables = {name: scores(answer, queries, before, true, spread) for name, answer in answers.items()}
    tables[MAJORITY] = majority(true[0], queries)
    best = winners(tables)
    return result.document(
        "baselines", world, len(np.unique(queries.patient)), size.seeds, metrics(tables), rows(tables),
        samples=size.samples, true_futures=FUTURES, winners=best,
        budget={name: settings_of(columns[ALONE]) for name, columns in rivals.worlds.items() if ALONE in columns},
        origin=origin(rivals, best),
    )  # fmt: skip


def metrics(tables: Mapping[str, Estimates]) -> dict[str, Any]:
    """One metric per score: ours, beside every other row that has it."""
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    nothing = {"value": None, "ci95": None}
    return {
        name: metric(
            tables[OURS].get(name, tables[f"{OURS}, drawn"].get(name, nothing)),
            baselines={row: table[name] for row, table in tables.items() if row != OURS and name in table},
        )
        for name in names
    }


def rows(tables: Mapping[str, Estimates]) -> list[dict[str, Any]]:
    """One row per table: whether it works, the value of every score, and what the paper reports of this method [%]."""
    return [
        {"row": name, "works": verdict(table), **{score: one["value"] for score, one in table.items()},
         **reported(name.removesuffix(f", {ALONE}"))}
        for name, table in tables.items()
    ]  # fmt: skip


def reported(title: str) -> dict[str, float]:
    """Accuracy and recall [%] of a method in the paper's Table 2; empty for a row that is not in it."""
    row = {words.title: words.paper for words in all_words()}.get(title, {})
    return {
        f"paper_{what}_{interval}": value
        for interval, pair in row.items()
        for what, value in zip(("accuracy", "recall"), pair)
    }


def winners(tables: Mapping[str, Estimates]) -> dict[str, str]:
    """The row of lowest CRPS for each interval."""
    best = {}
    for name in INTERVALS:
        score = f"crps_{SHORT[name]}"
        there = {row: t[score]["value"] for row, t in tables.items() if score in t and t[score]["value"] is not None}
        if there:
            best[SHORT[name]] = min(there, key=lambda row: there[row])
    return best


def origin(rivals: Rivals, best: Mapping[str, str]) -> str:
    """A sentence on the rivals' budget and one on who wins, for the page."""
    minutes = [settings_of(columns[ALONE]).get("cpu_minutes") for columns in rivals.worlds.values() if ALONE in columns]
    budgets = sorted({f"{value:g}" for value in minutes if value is not None})
    lost = [f"{interval}: {row}" for interval, row in best.items() if not row.startswith(OURS)]
    words = "Ours has the lowest CRPS of every interval" if not lost else f"Where ours is not best: {', '.join(lost)}"
    budget = (
        f"{len(minutes)} rivals, {' or '.join(budgets) or 'no stated number of'} CPU minutes of training each; "
        if minutes
        else ""
    )
    return f"{budget}the design foresees two CPU-hours and three learning rates. {words}."


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per row, for people."""
    return [
        {"row": row["row"], "works": row["works"], **{name: row.get(name) for name in COLUMNS}}
        for row in document["rows"]
    ]


def figure(document: Mapping[str, Any]) -> Figure:
    """CRPS of every row for four intervals, over that of a copy; and spread over true spread."""
    from matplotlib.figure import Figure

    table = {row["row"]: row for row in document["rows"] if row["row"] != MAJORITY}
    names = list(table)[::-1]
    picture = Figure(figsize=(14, 0.32 * len(names) + 1.5), layout="constrained")
    axes = picture.subplots(1, 5, sharey=True)
    for ax, score in zip(axes, ("crps_hr", "crps_pr", "crps_qrs", "crps_qtcf", "spread_qtcf")):
        reference = (table[COPY].get(score) or np.nan) if score.startswith("crps") else 1.0
        values = [(table[name].get(score) or np.nan) / reference for name in names]
        colours = ["tab:red" if n.startswith(OURS) else "tab:blue" if n.endswith(FORECAST) else "0.6" for n in names]
        ax.barh(names, values, color=colours)
        ax.axvline(1.0, color="black", lw=0.8)
        ax.set_title(f"{score.replace('_', ' ')} / copy" if score.startswith("crps") else "spread / true (QTcF)")
        ax.set_xlim(0, min(4.0, 1.1 * max(1.0, *(v for v in values if np.isfinite(v)))))
    return picture


_EVERY = range(len(INTERVALS))
