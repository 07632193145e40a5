"""``ecg-gym evaluate`` and ``ecg-gym leaderboard``: anybody's policy on the frozen patients, and the page of all."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from training.cli.options import Json
from training.console import SAY, entrance, following, research_only, results

QUICK = ("af_rapid_response", "svt")
QUICK_PATIENTS = 20
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 is this one. Rows do not depend on it.")]
Ray = Annotated[str | None, typer.Option(help="Ray cluster to use instead: 'auto', 'local', or an address.")]

leaderboard = typer.Typer(
    help="The leaderboard: add submissions, write the page.", no_args_is_help=True, rich_markup_mode="markdown"
)


def evaluate(
    policy: Annotated[
        str, typer.Argument(help="A name (guideline, search, model-search ...), a .zip of SB3, or module:policy.")
    ],
    scenarios: Annotated[str | None, typer.Option(help="Comma separated; default all.")] = None,
    split: Annotated[str, typer.Option(help="test-v1, validation, train, or the path of a set.")] = "test-v1",
    episodes: Annotated[int, typer.Option(min=2, help="Patients per scenario.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds: {seed} in POLICY counts them.")] = 1,
    model: Annotated[str, typer.Option(help="Learned world of the planners: 'model' or a path.")] = "model",
    fidelity: Annotated[str, typer.Option(help="What is judged: strip, or vitals (quicker).")] = "strip",
    workers: Workers = 2,
    ray: Ray = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin nothing after so long; the same command goes on later.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of rows; it resumes.")] = Path("out/evaluate"),
    submission: Annotated[
        Path | None, typer.Option(help="Write the submission there; default OUT/POLICY.jsonl.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What results and the leaderboard call it; default POLICY.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two scenarios, twenty patients, judged by vitals.")] = False,
    as_json: Json = False,
) -> None:
    """A policy on frozen patients: paired with the guideline, between the anchors, with a submission to verify."""
    from ecg_gym.envs.scenarios import load_scenarios
    from ecg_gym.executor import executor
    from training.evaluation.benchmark.evaluation import Entry, Evaluation, jobs, table
    from training.evaluation.benchmark.scores import scored, summary
    from training.evaluation.benchmark.submission import GUIDELINE, write_submission

    with entrance():
        names = tuple(w.strip() for w in scenarios.split(",") if w.strip()) if scenarios else ()
        names = names or (QUICK if quick else tuple(load_scenarios()))
        if quick:
            episodes, fidelity = min(episodes, QUICK_PATIENTS), "vitals"
        evaluation = Evaluation(split, names, episodes, fidelity=fidelity)
        ours, guideline = Entry(policy, seeds, model), Entry(GUIDELINE)
        loaded = [ours.loaded(seed) for seed in range(seeds)]
        SAY.print(f"protocol {evaluation.sha256}")
        waiting = sum(len(jobs(evaluation, entry, out)) for entry in (ours, guideline))
        staff = executor(workers, ray) if waiting else None
    if staff is not None:
        try:
            _play(evaluation, [guideline, ours], out, staff, minutes)
        finally:
            staff.close()
    with entrance():
        mine, book = (table(evaluation, entry, out) for entry in (ours, guideline))
        result = scored(evaluation, name or policy, loaded[0].model_sha256, mine, book)
        stem = "".join(c if c.isalnum() else "-" for c in name or policy)
        path = submission or out / f"{stem}.jsonl"
        hashes = [one.sha256 for one in loaded]
        write_submission(path, evaluation, policy, model, hashes, result, mine, book)
    SAY.print(f"submission {path}")
    if as_json:
        sys.stdout.write(json.dumps(summary(result), indent=2, allow_nan=False) + "\n")
        return
    results().print(_table(result))
    research_only()


def _play(evaluation: Any, entries: Any, out: Path, staff: Any, minutes: float | None) -> None:
    from training.evaluation.benchmark.evaluation import evaluate as play

    stop = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    with following("patients") as follow:
        for done, total in play(evaluation, entries, out, staff, lambda: time.monotonic() < stop):
            follow(done, total)


def _table(result: dict[str, Any]) -> Table:
    from training.evaluation.benchmark.board import verdict
    from training.evaluation.benchmark.markdown import number, with_interval

    table = Table(title=f"{result['policy']} on {result['split']}, paired with the guideline [risk-hours per episode]")
    for head in ("scenario", "paired difference", "", "normalised (0 random, 1 top)", "deaths/1000", "harm/1000", "n"):
        table.add_column(head)
    for name, row in result["scenarios"].items():
        table.add_row(name, with_interval(row["paired_difference"], row["ci95"]), verdict(row),
                      with_interval(row["normalised"], row["normalised_ci95"]), f"{row['deaths']:.0f}",
                      number(row["harm"]), str(row["n"]))  # fmt: skip
    mean = result["mean"]
    table.add_section()
    table.add_row("mean", with_interval(mean["paired_difference"], mean["ci95"]), "",
                  with_interval(mean["normalised"], mean["normalised_ci95"]), "", "", "")  # fmt: skip
    return table


@leaderboard.command()
def add(
    submission: Annotated[Path, typer.Argument(help="JSON lines that `ecg-gym evaluate` wrote.")],
    policy: Annotated[
        str | None, typer.Option(help="The policy, if it lies elsewhere than the submission says.")
    ] = None,
    blocks: Annotated[int, typer.Option(min=0, help="Blocks of ten patients per scenario that are played again.")] = 1,
    board: Annotated[Path, typer.Option(help="Folder of the submissions.")] = Path("out/leaderboard"),
    page: Annotated[Path | None, typer.Option(help="The page; default BOARD/leaderboard.md.")] = None,
) -> None:
    """Verify a submission by playing part of it again, add it, and write the page anew."""
    from training.evaluation.benchmark import board as boards
    from training.evaluation.benchmark.submission import read_submission, verify

    with entrance():
        played = verify(read_submission(submission), policy, blocks)
        boards.add(submission, board)
        there = boards.write_page(board, page or board / "leaderboard.md")
    SAY.print(f"verified {played} patients played again: all as submitted\npage     {page or board / 'leaderboard.md'}")
    SAY.print(f"entries  {there}")


@leaderboard.command()
def page(
    board: Annotated[Path, typer.Option(help="Folder of the submissions.")] = Path("out/leaderboard"),
    out: Annotated[Path | None, typer.Option(help="The page; default BOARD/leaderboard.md.")] = None,
) -> None:
    """Write the page of the submissions in a folder."""
    from training.evaluation.benchmark.board import write_page

    with entrance():
        there = write_page(board, out or board / "leaderboard.md")
    SAY.print(f"page     {out or board / 'leaderboard.md'} ({there} entries)")


@leaderboard.command()
def anchors(
    patients: Annotated[int, typer.Option(min=2, help="Patients per scenario.")] = 1000,
    scenarios: Annotated[str | None, typer.Option(help="Comma separated; default all.")] = None,
    workers: Workers = 2,
    ray: Ray = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin nothing after so long.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of rows; it resumes.")] = Path("out/anchors"),
    file: Annotated[Path, typer.Option(help="The frozen anchors.")] = Path("out/anchors/anchors.yaml"),
) -> None:
    """Play random, the search in the truth and the best constant of each patient, and freeze their mean returns."""
    from ecg_gym.envs.scenarios import load_scenarios
    from ecg_gym.executor import executor
    from training.evaluation.benchmark.anchors import ENTRIES, evaluation_of, freeze

    with entrance():
        names = tuple(scenarios.split(",")) if scenarios else tuple(load_scenarios())
        evaluation = evaluation_of(names, patients)
        staff = executor(workers, ray)
    try:
        _play(evaluation, list(ENTRIES), out, staff, minutes)
    finally:
        staff.close()
    with entrance():
        freeze(evaluation, out, file)
    SAY.print(f"anchors  {file}")


@leaderboard.command()
def curves(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `ecg-gym train policy`.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("out/leaderboard/curves.png"),
) -> None:
    """Draw the learning curves of trained policies."""
    from ecg_gym.io import atomic_write
    from training.evaluation.benchmark.curves import figure

    with entrance():
        picture = figure(folders)
        with atomic_write(out) as path:
            picture.savefig(path, format="png", dpi=110)
    SAY.print(f"picture  {out}")
