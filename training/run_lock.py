"""``locked(folder)``: one training at a time writes in a folder; a second is refused with a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".running"  # holds the process number of the training that writes here


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock inside; a lock that a killed process left behind is taken over.

    Raises ValueError where another process that is alive holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            if (holder := _holder(path)) is not None:
                raise ValueError(
                    f"{folder} is being written by process {holder}; expected a folder of its own for each training; "
                    f"pass another --out, wait for it, or delete {path} if that process is no training"
                ) from None
            path.unlink(missing_ok=True)
    try:
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        yield
    finally:
        path.unlink(missing_ok=True)


def _holder(path: Path) -> str | None:
    """The process that holds a lock; None where it is gone. Where nobody can tell, it is held."""
    try:
        words = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    if not words.isdigit():
        return words or "that has just begun"
    if os.name == "posix":
        try:
            os.kill(int(words), 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return words
    return words
