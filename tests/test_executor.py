"""Jobs are done once each, whoever does them; an error reaches the caller and nothing is left running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ecg_gym.executor import InProcess, LocalProcesses, completed, executor


def square(x: int) -> int:
    return x * x


def refuse_three(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


@pytest.mark.parametrize("workers", [0, 2])
def test_every_job_is_done_once(workers: int) -> None:
    results = dict(completed(executor(workers), square, range(7)))
    assert results == {x: x * x for x in range(7)}


def test_the_first_result_comes_before_the_last_job_is_taken() -> None:
    taken = []

    def jobs():
        for x in range(5):
            taken.append(x)
            yield x

    first = next(completed(executor(0), square, jobs()))
    assert first == (0, 0)
    assert len(taken) < 5


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_job_is_the_callers(workers: int) -> None:
    hands = executor(workers)
    with pytest.raises(ValueError, match="three"):
        list(completed(hands, refuse_three, range(6)))
    if isinstance(hands, LocalProcesses):
        assert not any(process.is_alive() for process in (hands.pool._processes or {}).values())


def note_and_sleep(path: Path) -> None:
    path.write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(300)


PARENT = """
import sys; from pathlib import Path
from ecg_gym.executor import completed, executor
from test_executor import note_and_sleep
if __name__ == "__main__":
    list(completed(executor(1), note_and_sleep, [Path(sys.argv[1])]))
"""


def test_the_workers_of_a_killed_parent_leave_with_it(tmp_path: Path) -> None:
    script, pid_file = tmp_path / "parent.py", tmp_path / "pid"
    script.write_text(PARENT, encoding="utf-8")
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    parent = subprocess.Popen([sys.executable, script, pid_file], env={**os.environ, "PYTHONPATH": paths})
    until(lambda: pid_file.is_file() and pid_file.read_text(encoding="utf-8") != "")
    worker = int(pid_file.read_text(encoding="utf-8"))
    parent.kill()
    parent.wait()
    until(lambda: not running(worker))


def until(condition, seconds: float = 60.0) -> None:
    """Waits; an AssertionError after so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def test_kinds_and_refusals() -> None:
    assert isinstance(executor(0), InProcess)
    with pytest.raises(ValueError, match="workers is -1; expected at least 1"):
        executor(-1)
    assert list(completed(executor(0), partial(square), [])) == []
