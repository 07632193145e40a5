"""How commands speak: everything but results on stderr, and a refusal is one message and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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


def progress_bar() -> Progress:
    """A bar on stderr with the remaining time, so that stdout stays clean for ``--json``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=SAY, transient=True)
