"""Which code made a file: the commit of the working tree."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def git_revision() -> str:
    """The commit the working tree stands on, with ``+`` if it has changes; ``unknown`` outside a repository."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")
