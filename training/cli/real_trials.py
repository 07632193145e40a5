"""Studies on shards of real ECGs (``--trials``), and the options they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from training.cli.options import Json, Model, Out, Report, Samples, spread
from training.console import SAY, counting, entrance

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


@dataclass(frozen=True)
class RealPeople:
    """The options of a study that can be made on shards of real ECGs instead of virtual patients."""

    trials: Trials = None
    side: Side = "test"
    subjects: Subjects = None
    hours: Hours = None
    intervals_only: IntervalsOnly = False


@spread
def real_effects(
    *,
    trials: Needed,
    model: Model = None,
    side: Side = "test",
    subjects: Subjects = None,
    hours: Hours = None,
    samples: Samples = None,
    intervals_only: IntervalsOnly = False,
    report: Report,
) -> None:
    """Group effects of real arms beside those of the model, of pharmacology, of placebo and of a wrong drug."""
    from training.evaluation.real_trials import effects

    on_real(effects, model, RealPeople(trials, side, subjects, hours, intervals_only), samples, report)


def leave_one_out(
    trials: Needed,
    model: Model = None,
    preset: Annotated[
        str, typer.Option(help="tiny (seconds) or default: how the interval model is tuned.")
    ] = "default",
    subjects: Annotated[int | None, typer.Option(min=1, help="Leave out only so many people.")] = None,
    samples: Samples = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The interval model, tuned on everybody else, foretells the one who was left out; beside trivial forecasts."""
    from ecg_gym.real_trials import read_manifest
    from ecg_gym.world_model import WorldModel
    from training.evaluation.real_trials import leave_one_out as module
    from training.evaluation.result import finish
    from training.train_real_trials import preset_named

    with entrance():
        tuning, world = preset_named(preset), WorldModel.load(model)
        people = len({trial.subject for trial in read_manifest(trials).trials})
        with counting("people", min(people, subjects or people)) as advance:
            document = module.study(world, trials, tuning, samples or 8, subjects, advance)
    finish(document, out, as_json, module.figure, module.summary(document))


def on_real(module: Any, model: Path | None, people: RealPeople, samples: int | None, report: Report) -> None:
    """A study of ``training.evaluation.real_trials`` on shards."""
    from ecg_gym.real_trials import read_manifest
    from ecg_gym.world_model import WorldModel

    trials, quick = Path(str(people.trials)), report.quick
    k = samples or (min(module.SAMPLES, QUICK_SAMPLES) if quick and module.SAMPLES < 19 else module.SAMPLES)
    with entrance():
        hours = None if people.hours is None else [_hour(text) for text in people.hours.split(",")]
        for notice in read_manifest(trials).about.get("notices", []):
            SAY.print(f"[yellow]note[/] {notice}")
        world = WorldModel.load(model)
        with counting("questions") as advance:
            document = module.study(
                world, trials, people.side, k, people.subjects or (QUICK_SUBJECTS if quick else None),
                not (people.intervals_only or quick), advance, hours,
            )  # fmt: skip
    report.finish(document, module.figure, module.summary(document))


def _hour(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--hours holds {text!r}; expected hours with commas; write --hours 2.5,4") from None
