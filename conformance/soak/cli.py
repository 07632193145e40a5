"""``python -m conformance.soak``: many steps, many broken inputs, many kills, and what did not hold."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ecg_gym.io import write_text
from training.console import SAY, entrance, progress_bar, results

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
EVERY_S = 10.0  # between two states of the document while the soak goes on


@app.command()
def soak(
    steps: Annotated[int, typer.Option(min=0, help="Env steps over all ids of the registry.")] = 2_000,
    inputs: Annotated[int, typer.Option(min=0, help="Broken records, tables, options, actions, checkpoints.")] = 500,
    kills: Annotated[int, typer.Option(min=0, help="kill -9 of a training and of an evaluation, then resumed.")] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    learned: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps in the learned world; the rest is the oracle's.")
    ] = 0.05,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is this one. The walks do not depend on it.")] = 2,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin nothing new after so long; the same command goes on later.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the ledger; it resumes. Default out/soak-STEPS-INPUTS.")]
    = None,
    as_json: Annotated[bool, typer.Option("--json", help="The document on stdout and nothing else there.")] = False,
) -> None:  # fmt: skip
    """Does it hold? Exit code 1 if a value was not finite, an input met a traceback or a result was lost."""
    from conformance.soak import report
    from conformance.soak.run import Plan, remaining, run

    plan = Plan(steps, inputs, kills, seed, learned)
    folder = out or Path("out") / f"soak-{steps}-{inputs}"
    path, last = folder / "soak.json", time.monotonic()
    with progress_bar() as bar:
        todo = remaining(plan, folder)
        tasks = {kind: bar.add_task(kind, total=todo[kind]) for kind in ("inputs", "steps", "kills")}
        with entrance():
            pieces = run(plan, folder, workers, minutes)
            for kind, row in pieces:
                bar.advance(tasks[kind], row[kind])
                if time.monotonic() - last > EVERY_S:
                    write_text(path, json.dumps(report.document(plan, folder, finished=False), indent=2) + "\n")
                    last = time.monotonic()
    document = report.document(plan, folder)
    write_text(path, json.dumps(document, indent=2) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(document)
        SAY.print(f"document {path}")
    if not report.good(document):
        raise typer.Exit(1)


def _show(document: dict[str, Any]) -> None:
    table = Table(title="soak" if document["complete"] else "soak, so far")
    for name in ("what", "tried", "not right"):
        table.add_column(name, justify="left" if name == "what" else "right")
    table.add_row("env steps", f"{document['steps']:,}", f"{document['nonfinite']} values not finite")
    table.add_row("broken inputs", f"{document['inputs']:,}", f"{document['tracebacks']} tracebacks")
    table.add_row("files of them", "", f"{document['files_harmed']} harmed")
    table.add_row("kill -9", f"{document['kills']}", f"{document['lost']} results lost")
    table.add_row("global random state", "", f"{document['global_random_touched']} times touched")
    slope = document["memory"]["mb_per_100k_steps_second_half"]
    table.add_row("memory", "", "-" if slope is None else f"{slope:+.1f} MB per 100,000 steps")
    results(100).print(table)
    for fault in document["faults"]:
        SAY.print(json.dumps(fault)[:400], markup=False)
