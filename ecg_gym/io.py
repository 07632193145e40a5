"""Files that are there as a whole or not at all: every writer of this project goes through :func:`atomic_write`."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, of the same suffix; renamed to ``path`` when the block ends well.

    The name is unique, so that two processes that write the same file do not collide: the last one wins. When the block
    raises, nothing is left behind and an earlier file stays as it was. Folders are made. A full disk raises OSError
    with one sentence.
    """
    path = Path(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"{path} could not be written: the disk is full; expected room for it; free some space or pass another "
            "--out; what was there before is unchanged",
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """``content`` as the file ``path``."""
    with atomic_write(path) as aside:
        aside.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """``text`` as the file ``path``, UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, document: Any, indent: int | None = 2, **how: Any) -> None:
    """``document`` as JSON with a last line end; numbers that are not finite raise ValueError."""
    write_text(path, json.dumps(document, indent=indent, allow_nan=False, **how) + "\n")


def write_npz(path: str | Path, columns: dict[str, Any], compressed: bool = False) -> None:
    """Arrays by name as NumPy's npz."""
    with atomic_write(path) as aside:
        (np.savez_compressed if compressed else np.savez)(aside, **columns)
