"""How commands speak: everything but results on stderr, and a refusal is one message and exit code 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

RESEARCH_ONLY = "Research only: nothing here may guide the care of a person."
SAY = Console(stderr=True, soft_wrap=True, highlight=False)


def refuse(error: Exception) -> NoReturn:
    """Say one message on stderr and leave with exit code 2."""
    SAY.print(f"[bold red]refused[/] {escape(str(error))}")
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=SAY, transient=True)
