"""``ecg-gym report``: a saved episode, an evaluation's result or a record as one HTML page that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import ecg_gym
from ecg_gym.core import State
from planners.report.html import Story, plan_page, tell
from training.cli import episode_file, episode_page
from training.cli.episode_file import KIND, SavedEpisode
from training.cli.play import make
from training.evaluation.benchmark.html import evaluation_page, is_result

Progress = Callable[[int, int], None]
NAMES = {"steps": "hours", "doses": "given"}  # options that are called otherwise than the fields of Asked
PLAYED = (("played", "What was played"),)
PEEK = (
    "The plan starts from the state of the env's own world, which is more than what was seen: its strip below is the "
    "true one."
)
SAME_MV = 0.002  # strips closer than this are the same strip: stored as whole microvolts


@dataclass(frozen=True)
class ReportOptions:
    """What somebody wants to know beside the source: the options of the command."""

    samples: int = 16
    risk_aversion: float = 0.6
    seed: int = 0
    steps: int = 4  # of the branches
    at: int = 0  # step of a saved episode to plan at
    scenario: str | None = None
    patient: str | None = None
    doses: Sequence[str] = ()
    drugs: str | None = None
    model: Path | None = None
    allow_missing_leads: bool = False
    trust_code: bool = False  # run the code that a saved episode names

    def command(self, source: Path) -> str:
        """The command line that asks for the same, without where the page goes."""
        words = ["ecg-gym", "report", str(source)]
        for f in fields(self):
            value, option = getattr(self, f.name), "--" + NAMES.get(f.name, f.name).replace("_", "-")
            if value != f.default:
                several = value if f.name == "doses" else (value,)
                words += [option] if value is True else [word for one in several for word in (option, str(one))]
        return shlex.join(words)


def report(source: Path, options: ReportOptions, progress: Progress | None = None) -> str:
    """The page. ``ValueError`` or ``OSError`` for what a user can get wrong, before anything is written."""
    if source.suffix.lower() != ".json":
        return of_record(source, options, progress)
    document = episode_file.load(source)
    if is_result(document):
        return evaluation_page(document, source.name)
    if isinstance(document, dict) and document.get("kind") == KIND:
        return of_episode(episode_file.parse(document, source), source, options, progress)
    keys = ", ".join(map(str, list(document)[:5])) if isinstance(document, dict) else type(document).__name__
    raise ValueError(
        f"{source} holds {keys}; expected an episode that `ecg-gym play` saved or the JSON of `ecg-gym evaluate`; "
        "for a plan name the record itself, whose strips a plan.json does not have"
    )


def of_record(path: Path, options: ReportOptions, progress: Progress | None = None) -> str:
    """The page of a WFDB record, read and planned for as ``ecg-gym plan`` does."""
    from planners.from_record import prepare

    prepared = prepare(
        path,
        scenario=options.scenario,
        patient_words=options.patient,
        given_words=options.doses,
        drugs_words=options.drugs,
        model_path=options.model,
        allow_missing_leads=options.allow_missing_leads,
    )
    record = prepared.record
    story = tell(
        prepared.world, prepared.state, prepared.candidates, prepared.risk,
        k=options.samples, risk_aversion=options.risk_aversion, seed=options.seed, steps=options.steps,
        record=record.name, missing=record.ecg.missing, facts=_facts(options, path, prepared.state),
        record_facts=prepared.facts, by_name=prepared.by_name, remarks=record.remarks, progress=progress,
    )  # fmt: skip
    return plan_page(story, notes=record.remarks)


def of_episode(episode: SavedEpisode, path: Path, options: ReportOptions, progress: Progress | None = None) -> str:
    """The page of a saved episode: what was played, and a plan for the look that ``asked.at`` names."""
    if episode.code and not options.trust_code:
        raise ValueError(
            f"{path} was played with code of its own ({', '.join(episode.code)}); expected a world and a risk of the "
            "package, since a file from elsewhere could name anything; pass --trust-code if you know who wrote it"
        )
    env, notes = replay(episode, options.at)
    inner, look = env.unwrapped, episode.looks[options.at]
    name = f"{path.stem}, {look.hours:g} h"
    facts = {"episode": path.name, "actions": " ".join(map(str, episode.actions)),
             **_facts(options, path, inner.state), "seed of the episode": str(episode.seed),
             }  # fmt: skip
    story: Story = tell(
        inner.world, inner.state, inner.menu, inner.risk,
        k=options.samples, risk_aversion=options.risk_aversion, seed=options.seed, steps=options.steps, record=name,
        first=inner.episode.first, facts=facts, progress=progress,
    )  # fmt: skip
    if look.missing or np.abs(inner.state.ecg[0] - look.ecg).max() > SAME_MV:
        notes = (*notes, PEEK)
    title = f"Episode {path.stem}, and a plan for its hour {look.hours:g}"
    return plan_page(story, title, more=episode_page.course(episode), links=PLAYED, notes=notes)


def replay(episode: SavedEpisode, step: int) -> tuple[Any, tuple[str, ...]]:
    """The env of a saved episode after ``step`` of its steps, and a warning where it shows another strip than then."""
    if not 0 <= step < len(episode.looks):
        raise ValueError(
            f"--at is {step} and the episode has {len(episode.actions)} steps; expected 0 to {len(episode.looks) - 1}; "
            "0 is its first look"
        )
    if step == len(episode.looks) - 1 and episode.ended == "lethal":
        raise ValueError(f"--at is {step}, after a lethal end; expected a step before it; ask for --at {step - 1}")
    env = make(episode.env)
    if tuple(map(str, env.unwrapped.menu)) != episode.menu:
        raise ValueError(
            f"the episode was played with another menu than {episode.scenario} has now; expected the same entries; "
            "replay it with the version that saved it"
        )
    env.reset(seed=episode.seed, options=dict(episode.options))
    for action in episode.actions[:step]:
        env.step(env.unwrapped.action(env.unwrapped.menu[action]))
    from ecg_gym.envs.rendering import newest_strip

    rows, saved = newest_strip(env.unwrapped.episode).signal, np.nan_to_num(episode.looks[step].ecg)
    if np.abs(np.clip(rows, -32, 32) - saved).max() <= SAME_MV:
        return env, ()
    return env, (
        "Replayed, the episode shows another strip than the saved one: other weights, another version or another "
        "machine. The strips are the saved ones; the plan starts from the replayed state.",
    )


def _facts(options: ReportOptions, source: Path, state: State) -> dict[str, str]:
    doses = "; ".join(f"{a.dose} at {a.hours:g} h" for a in state.doses[0])
    return {
        "command": options.command(source),
        "version": ecg_gym.__version__,
        "λ": f"{options.risk_aversion:g}",
        "doses taken before": doses,
    }


__all__ = ["ReportOptions", "of_episode", "of_record", "replay", "report"]
