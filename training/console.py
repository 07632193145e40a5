"""How commands speak: everything but results on stderr, and a refusal is one message and exit code 2."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

RESEARCH_ONLY = "Research only: nothing here may guide the care of a person."
SAY = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)  # text as it is: "[ms]" is a unit, no style


def results(width: int = 120, exact: bool = False) -> Console:
    """A console on stdout for tables, at least (or exactly) ``width`` columns wide; ``[ms]`` is text."""
    return Console(width=width if exact else max(width, Console().width), markup=False)


def say(text: str, head: str = "", style: str = "") -> None:
    """One message on stderr: ``head`` in ``style``, then the text as it is."""
    SAY.print(Text.assemble((head, style), " " if head else "", (text, "" if head else style)))


def note(text: str) -> None:
    """A remark on stderr."""
    say(text, "note", "yellow")


def research_only() -> None:
    """The last line of every command that ranks treatments or shows effects, on stderr."""
    say(RESEARCH_ONLY, style="dim")


def refuse(error: Exception) -> NoReturn:
    """Say one message on stderr and leave with exit code 2."""
    say(str(error), "refused", "bold red")
    raise typer.Exit(2)


@contextmanager
def entrance() -> Iterator[None]:
    """Inside, a ValueError or a missing file is the user's; outside, it is ours and keeps its traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        refuse(error)


def writable(path: Path, folder: bool = True) -> Path:
    """``path``, a folder or a file, if it could be made there; ValueError where not. Nothing is made yet."""
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK) or (path.is_dir() and not folder):
        kind = "folder" if folder else "file in a folder"
        raise ValueError(f"--out is {path}; expected a {kind} that can be written; {nearest} is not: choose another")
    return path


def progress_bar() -> Progress:
    """A bar on stderr with the remaining time, so that stdout stays clean for ``--json``."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=SAY, transient=True)


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar over ``total`` things; inside, call what comes with how many more are done, one where nothing is passed."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda n=1: bar.advance(task, n)


@contextmanager
def following(what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar over things whose number is known on the way; inside, call what comes with ``(done, total)``."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
