"""Studies on shards of real ECGs (``--trials``), and the options they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from training.console import entrance, progress_bar
from training.evaluation import result as common

Trials = Annotated[
    Path | None,
    typer.Option("--trials", help="Folder of real shards (`ecg-gym data shards`); default virtual patients."),
]
Needed = Annotated[Path, typer.Option("--trials", help="Folder of real shards (`ecg-gym data shards`).")]
Side = Annotated[str, typer.Option(help="With --trials: train, validation or test.")]
Subjects = Annotated[int | None, typer.Option(min=1, help="With --trials: only so many people.")]
Hours = Annotated[str | None, typer.Option(help="With --trials: only these hours of the arm's clock, e.g. 2.5,4.")]
IntervalsOnly = Annotated[
    bool,
    typer.Option("--intervals-only", help="With --trials: the interval model's draws, no strips; ten times faster."),
]
QUICK_SUBJECTS, QUICK_SAMPLES = 2, 4


def real_effects(
    trials: Needed,
    model: common.Model = None,
    side: Side = "test",
    subjects: Subjects = None,
    hours: Hours = None,
    samples: common.Samples = None,
    intervals_only: IntervalsOnly = False,
    quick: common.Quick = False,
    out: common.Out = None,
    as_json: common.Json = False,
) -> None:
    """Group effects of real arms beside those of the model, of pharmacology, of placebo and of a wrong drug."""
    from training.evaluation.real_trials import effects

    on_real(effects, trials, model, (side, subjects, hours, samples, intervals_only, quick), out, as_json)


def leave_one_out(
    trials: Needed,
    model: common.Model = None,
    preset: Annotated[
        str, typer.Option(help="tiny (seconds) or default: how the interval model is tuned.")
    ] = "default",
    subjects: Annotated[int | None, typer.Option(min=1, help="Leave out only so many people.")] = None,
    samples: common.Samples = None,
    out: common.Out = None,
    as_json: common.Json = False,
) -> None:
    """The interval model, tuned on everybody else, foretells the one who was left out; beside trivial forecasts."""
    from ecg_gym.real_trials import read_manifest
    from ecg_gym.world_model import WorldModel
    from training.evaluation.real_trials import leave_one_out as module
    from training.train_real_trials import preset_named

    with entrance():
        chosen, world = preset_named(preset), WorldModel.load(model)
        people = len({trial.subject for trial in read_manifest(trials).trials})
        with progress_bar() as bar:
            task = bar.add_task("people", total=min(people, subjects or people))
            document = module.study(world, trials, chosen, samples or 8, subjects, lambda done: bar.advance(task, done))
    common.finish(document, out, as_json, module.figure, module.summary(document))


def on_real(
    module: Any, trials: Path, model: Path | None,
    how: tuple[str, int | None, str | None, int | None, bool, bool], out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """A study of ``training.evaluation.real_trials`` on shards; ``how`` are the options of that order."""
    from ecg_gym.real_trials import read_manifest
    from ecg_gym.world_model import WorldModel

    side, subjects, hours, samples, intervals_only, quick = how
    k = samples or (min(module.SAMPLES, QUICK_SAMPLES) if quick and module.SAMPLES < 19 else module.SAMPLES)
    with entrance():
        chosen_hours = None if hours is None else [_hour(text) for text in hours.split(",")]
        for notice in read_manifest(trials).about.get("notices", []):
            common.SAY.print(f"[yellow]note[/] {notice}")
        world = WorldModel.load(model)
        with progress_bar() as bar:
            task = bar.add_task("questions", total=None)
            document = module.study(
                world, trials, side, k, subjects or (QUICK_SUBJECTS if quick else None), not (intervals_only or quick),
                lambda rows: bar.advance(task, rows), chosen_hours,
            )  # fmt: skip
    common.finish(document, out, as_json, module.figure, module.summary(document))


def _hour(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--hours holds {text!r}; expected hours with commas; write --hours 2.5,4") from None
