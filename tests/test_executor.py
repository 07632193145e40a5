"""Jobs are done once each, whoever does them; an error reaches the caller and nothing is left running."""

from __future__ import annotations

from functools import partial

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


def test_kinds_and_refusals() -> None:
    assert isinstance(executor(0), InProcess)
    with pytest.raises(ValueError, match="workers is -1; expected at least 1"):
        executor(-1)
    assert list(completed(executor(0), partial(square), [])) == []
