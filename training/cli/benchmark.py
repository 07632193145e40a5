"""``ecg-gym benchmark``: play what is missing, then tell what all rows say."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ecg_gym.io import write_bytes
from training.console import SAY, entrance, progress_bar, results

Words = Annotated[str | None, typer.Option(help="Comma separated; default all.")]
QUICK = ("af_rapid_response", "bradycardia")
QUICK_AGENTS = ("random", "watch", "constant", "guideline", "exhaustive", "oracle")


def benchmark(
    scenarios: Words = None,
    agents: Words = None,
    episodes: Annotated[int, typer.Option(min=1, help="Patients per scenario and seed.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions with other patients, and learners trained anew.")] = 1,
    inside: Annotated[
        int | None, typer.Option(min=0, help="Of them, also played inside the learned model; default a quarter.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is this one. Rows do not depend on it.")] = 2,
    ray: Annotated[
        str | None, typer.Option(help="Ray cluster to use instead: 'auto', 'local', or an address.")
    ] = None,
    tier: Annotated[str, typer.Option(help="What is seen of the patients: clean, variation, noisy, missing, delayed.")]
    = "variation",
    model: Annotated[str, typer.Option(help="Learned model to plan and train in: 'model' or a path.")] = "model",
    tune: Annotated[
        bool, typer.Option("--tune", help="Other patients: choose settings on them, 'exhaustive:k=4;horizon=2'.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no episode after so long; the same command goes on later.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of rows, document and page; it resumes.")] = Path("out/benchmark"),
    page: Annotated[Path | None, typer.Option(help="The leaderboard; default OUT/leaderboard.md.")] = None,
    replay: Annotated[
        int, typer.Option(min=0, help="First play so many stored episodes of every cell again; refuse if they differ.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Two scenarios, cheap agents, few episodes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The document on stdout and nothing else there.")] = False,
) -> None:  # fmt: skip
    """Every agent in the same virtual patients: normalised scores, intervals, costs, and the leaderboard."""
    from ecg_gym.envs.scenarios import load_scenarios
    from ecg_gym.executor import executor
    from training.evaluation.benchmark import leaderboard
    from training.evaluation.benchmark.agents import contestants
    from training.evaluation.benchmark.protocol import JUDGED, TUNED, Protocol
    from training.evaluation.benchmark.results import document
    from training.evaluation.benchmark.run import lessons, missing, stored
    from training.evaluation.benchmark.run import replay as repeat

    command = shlex.join(["ecg-gym", *sys.argv[1:]])
    with entrance():
        names = _split(scenarios) or (QUICK if quick else tuple(load_scenarios()))
        who = contestants(_split(agents) or (QUICK_AGENTS if quick else None))
        episodes = min(episodes, 3) if quick else episodes
        protocol = Protocol(
            scenarios=names, episodes=episodes, seeds=seeds, tier=tier, model=model,
            purpose=TUNED if tune else JUDGED,
            inside=max(1, episodes // 4) if inside is None else inside,
        )  # fmt: skip
        SAY.print(f"protocol {protocol.sha256}")
        if replay:
            SAY.print(f"replayed {repeat(protocol, who, out, replay)} episodes: all as stored")
        waiting = len(missing(protocol, who, out))
        staff = executor(workers, ray) if waiting else None
    if staff is not None:
        try:
            _play(protocol, who, out, staff, waiting, minutes)
        finally:
            staff.close()
    with entrance():
        result = document(protocol, who, stored(protocol, who, out), lessons(protocol, who, out))
        if result["episodes_played"]:
            where = page or out / "leaderboard.md"
            leaderboard.write(result, where, where.with_suffix("") / "scores.png", command)
            SAY.print(f"page     {where}")
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    write_bytes(out / "benchmark.json", text.encode())
    SAY.print(f"document {out / 'benchmark.json'}")
    if as_json:
        sys.stdout.write(text)
        return
    results().print(_table(result))


def _play(protocol: Any, who: Any, out: Path, staff: Any, waiting: int, minutes: float | None) -> None:
    from training.evaluation.benchmark.run import run

    stop = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    with progress_bar() as bar:
        task = bar.add_task("episodes", total=waiting)
        for done, _, row in run(protocol, who, out, staff, lambda: time.monotonic() < stop):
            bar.update(task, completed=done, description=f"episodes ({row['agent']} in {row['scenario']})")


def _split(words: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip()) if words else ()


def _table(result: dict[str, Any]) -> Table:
    from training.evaluation.benchmark.leaderboard import ranked, with_interval

    names = list(result["scenarios"]) if len(result["scenarios"]) <= 4 else []  # more do not fit; see the page
    table = Table(title=f"gap from random (0) to oracle (1) closed; protocol {result['protocol_sha256'][:12]}")
    for head in ("agent", "normalised IQM", "gap closed", *names):
        table.add_column(head)
    for name, one in ranked(result["mean"]):
        cells = [result["scenarios"][scenario]["agents"].get(name) for scenario in names]
        closed = [with_interval(cell["gap_closed"], None) if cell else "-" for cell in cells]
        table.add_row(name, with_interval(one["normalised_iqm"], one["ci95"]),
                      with_interval(one["gap_closed"], one["gap_closed_ci95"]), *closed)  # fmt: skip
    if result["not_well_defined"]:
        table.caption = f"not well defined, left out of the means: {', '.join(result['not_well_defined'])}"
    return table
