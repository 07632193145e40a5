"""Two trainings do not write into one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.run_lock import LOCK, locked


def test_a_second_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text(encoding="ascii") == str(os.getpid())
        with (
            pytest.raises(ValueError, match=r"is being written by process .*; expected .*; pass another --out"),
            locked(tmp_path),
        ):
            pass
    assert not (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass


def test_the_lock_is_released_when_the_training_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError("diverged")
    assert not (tmp_path / LOCK).exists()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody can ask whether a process is alive")
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / LOCK).write_bytes(gone.stdout.strip())
    with locked(tmp_path):
        pass
