"""Who does the work: this process, processes of this machine, or a Ray cluster. All three look alike to the driver.

The same command scales from a laptop to a cluster: simulate, trial, training data, studies and benchmark hand their
jobs to an :class:`Executor`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, Protocol

Work = Callable[[Any], Any]


class Executor(Protocol):
    """Takes jobs while it is ``free`` and hands back finished ones in any order; errors are raised by ``next``."""

    @property
    def free(self) -> bool:
        """Whether another job would begin soon."""
        ...

    @property
    def busy(self) -> bool:
        """Whether results are still to come."""
        ...

    def submit(self, work: Work, job: Any) -> None:
        """Do this."""
        ...

    def next(self) -> tuple[Any, Any]:
        """A job that is done, and its result; waits for one."""
        ...

    def close(self) -> None:
        """Leave nothing running."""
        ...


class InProcess:
    """This process, one job at a time."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Work, Any]] = []

    @property
    def free(self) -> bool:
        """One at a time."""
        return not self.waiting

    @property
    def busy(self) -> bool:
        """A job is waiting to be done."""
        return bool(self.waiting)

    def submit(self, work: Work, job: Any) -> None:
        """It is done when it is asked for."""
        self.waiting.append((work, job))

    def next(self) -> tuple[Any, Any]:
        """Does it."""
        work, job = self.waiting.pop()
        return job, work(job)

    def close(self) -> None:
        """Nothing to do."""


class LocalProcesses:
    """``workers`` processes of this machine, each with one thread for its networks."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; expected at least 1; pass --workers 2")
        self.most = workers + 1  # one job is queued, so that no worker idles
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker)
        self.jobs: dict[Future[Any], Any] = {}

    @property
    def free(self) -> bool:
        """Fewer jobs than workers and the queued one."""
        return len(self.jobs) < self.most

    @property
    def busy(self) -> bool:
        """Something is under way."""
        return bool(self.jobs)

    def submit(self, work: Work, job: Any) -> None:
        """The next idle worker takes it."""
        self.jobs[self.pool.submit(work, job)] = job

    def next(self) -> tuple[Any, Any]:
        """Whichever is done first."""
        done, _ = wait(self.jobs, return_when=FIRST_COMPLETED)
        future = done.pop()
        return self.jobs.pop(future), future.result()

    def close(self) -> None:
        """Ends the workers; what they were doing is not kept."""
        running = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self.jobs:
            for process in running:
                process.terminate()


class RayCluster:
    """The machines of a Ray cluster; ``address`` as ``ray.init`` takes it, "local" for one on this machine."""

    def __init__(self, address: str = "auto", workers: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            sentence = "--ray needs Ray, which is not installed; expected the extra; run pip install 'ecg-gym[ray]'"
            raise ValueError(sentence) from error
        self.ray = ray
        local = address == "local"
        ray.init(None if local else address, num_cpus=workers if local else None, include_dashboard=False,
                 log_to_driver=False, configure_logging=False)  # fmt: skip
        self.task = ray.remote(num_cpus=1, max_retries=2)(single_threaded)
        self.most = 2 * int(ray.cluster_resources().get("CPU", 1))
        self.jobs: dict[Any, Any] = {}

    @property
    def free(self) -> bool:
        """Two jobs per processor of the cluster."""
        return len(self.jobs) < self.most

    @property
    def busy(self) -> bool:
        """Something is under way."""
        return bool(self.jobs)

    def submit(self, work: Work, job: Any) -> None:
        """Ray finds a place for it; a machine that goes away costs at most a repetition."""
        self.jobs[self.task.remote(work, job)] = job

    def next(self) -> tuple[Any, Any]:
        """Whichever is done first."""
        (done, *_), _ = self.ray.wait(list(self.jobs), num_returns=1)
        return self.jobs.pop(done), self.ray.get(done)

    def close(self) -> None:
        """Leaves the cluster; a local one ends."""
        self.ray.shutdown()


def executor(workers: int = 1, ray: str | None = None) -> Executor:
    """Processes of this machine, or a Ray cluster if an address is given; 0 workers is this process itself."""
    if ray is not None:
        return RayCluster(ray, workers)
    return LocalProcesses(workers) if workers else InProcess()


def completed(executor: Executor, work: Work, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yields ``(job, work(job))`` of all jobs as they are done; the executor is closed at the end, also by Ctrl-C."""
    waiting = iter(jobs)
    try:
        left = True
        while left or executor.busy:
            while left and executor.free:
                try:
                    executor.submit(work, next(waiting))
                except StopIteration:
                    left = False
            if executor.busy:
                yield executor.next()
    finally:
        executor.close()


def _begin_worker() -> None:
    """One thread, and Ctrl-C is the parent's business: it closes the executor, which ends the workers.

    A parent that was killed closes nothing: its workers leave with it instead of finishing what nobody waits for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def one_thread() -> None:
    """Each process computes with one thread: they are many, and the same sums come out whatever their number."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def single_threaded(work: Work, job: Any) -> Any:
    """``work(job)`` with one thread."""
    one_thread()
    return work(job)
