"""The commands that show something: ``ecg-gym play`` and ``ecg-gym report``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from training.console import SAY, entrance, progress_bar, refuse, research_only, writable

Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]


def play(
    scenario: Annotated[str, typer.Option(help="Whom the episode starts with, and the drugs at hand.")] = (
        "af_rapid_response"
    ),
    world: Annotated[str, typer.Option(help="model, oracle (the virtual patient), or a path to weights.")] = "model",
    risk: Annotated[str, typer.Option(help="adverse, limits (no weights), mean, max, top3.")] = "adverse",
    tier: Annotated[str | None, typer.Option(help="clean, variation, noisy, missing, delayed.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="A WFDB record to start from instead of a virtual patient.")
    ] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Steps the episode may last.")] = 8,
    seed: Seed = 0,
    all_drugs: Annotated[bool, typer.Option("--all-drugs", help="Allow what has no indication, too.")] = False,
    actions: Annotated[str | None, typer.Option(help="Choices with commas, such as 0,3,0, instead of asking.")] = None,
    out: Annotated[Path | None, typer.Option(help="File of the episode; default out/play/SCENARIO-SEED.json.")] = None,
) -> None:
    """Step one episode in the terminal: choose by number, undo, ask what if; saved after every step."""
    from training.cli.play import HELP, Game
    from training.cli.play import play as played

    kwargs: dict[str, Any] = {"world": world, "risk": risk, "scenario": scenario, "horizon": horizon}
    if not all_drugs:
        kwargs["mask"] = "indications"
    if tier is not None:
        kwargs["tier"] = tier
    with entrance():
        game = Game.start(kwargs, seed, {"ecg": str(record)} if record else {}, out or _free(f"{scenario}-{seed}"))
        if actions is not None:
            _obey(game, actions)
            return
    _tell(HELP)
    try:
        played(game, _typed(), _tell)
    except KeyboardInterrupt:
        game.save()
    SAY.print(f"\nepisode  {game.path}\npage     ecg-gym report {game.path}")
    research_only()


def report(
    source: Annotated[
        Path, typer.Argument(help="An episode that `play` saved, the JSON of `evaluate`, or a WFDB record.")
    ],
    out: Annotated[Path | None, typer.Option(help="The page; default out/<name>.html.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Record: lends conditions, doses and drugs.")] = None,
    patient: Annotated[str | None, typer.Option(help="Record: age=71,sex=F,K=3.1,... or a YAML/JSON file.")] = None,
    doses: Annotated[
        list[str] | None,
        typer.Option("--given", help="Record: taken before: 'dofetilide 0.5 mg PO @ -2h'; repeatable."),
    ] = None,
    drugs: Annotated[str | None, typer.Option(help="Record: candidates, comma separated; default all.")] = None,
    model: Annotated[Path | None, typer.Option(help="Record: folder of weights; default the packaged ones.")] = None,
    allow_missing_leads: Annotated[bool, typer.Option(help="Record: mask absent leads instead of refusing.")] = False,
    at: Annotated[int, typer.Option(min=0, help="Episode: the step to plan at.")] = 0,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Episode: run the world or risk of your own that it names.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, max=128, help="Post-dose ECGs drawn per candidate (K).")] = 16,
    risk_aversion: Annotated[float, typer.Option(min=0, max=100, help="Lambda the page starts with.")] = 0.6,
    hours: Annotated[int, typer.Option(min=1, max=24, help="Steps that the branches are followed for.")] = 4,
    seed: Seed = 0,
) -> None:
    """One HTML page, no network needed: strip, ranking with a lambda slider, futures, branches, and why masked."""
    from ecg_gym.io import write_text
    from training.cli.report import ReportOptions
    from training.cli.report import report as written

    row = tuple(doses or ())
    request = ReportOptions(
        samples, risk_aversion, seed, hours, at, scenario, patient, row, drugs, model, allow_missing_leads, trust_code
    )
    path = out or Path("out") / f"{source.with_suffix('').name if source.suffix else source.name}.html"
    with entrance():
        writable(path, folder=False)
        with progress_bar() as bar:
            task = bar.add_task("futures", total=None)
            page = written(source, request, lambda done, total: bar.update(task, completed=done, total=total))
        write_text(path, page)
    SAY.print(f"page     {path}  ({len(page.encode()) / 1e6:.1f} MB)")
    research_only()


def _obey(game: Any, words: str) -> None:
    """The choices, one after the other; what was played before a refusal is saved."""
    from training.cli.play import screen

    try:
        for word in words.split(","):
            game.step(game.entry(word.strip()))
    except ValueError as error:
        game.save()
        refuse(error)
    for row in screen(game):
        _tell(row)
    SAY.print(f"episode  {game.path}")


def _typed() -> Iterator[str]:
    """Lines from the keyboard, or from a pipe, until there are no more."""
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def _tell(text: str) -> None:
    """A line on stdout; signs that the terminal does not have become question marks."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding))


def _free(stem: str) -> Path:
    """The first name under out/play that nobody has taken."""
    folder = Path("out") / "play"
    names = (folder / (f"{stem}.json" if i == 0 else f"{stem}-{i}.json") for i in count())
    return next(path for path in names if not path.exists())
