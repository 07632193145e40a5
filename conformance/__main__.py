"""Run other people's checks and print one table: ``python -m conformance [--only WORD ...] [--jobs N] [--strict]``.

Exit code 1 when a check failed, or, with ``--strict``, when one was skipped. What every check said stands in
``out/conformance/``, and the table as ``results.json`` beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass

from conformance.homes import CannotInstall, Home, prepare
from conformance.script import ROOT, SKIPPED
from conformance.suites import SUITES, Suite
from ecg_gym.io import write_json

FOLDER = ROOT / "out" / "conformance"
MARKS = {"passed": "\033[32mpassed \033[0m", "failed": "\033[31mFAILED \033[0m", "skipped": "\033[33mSKIPPED\033[0m"}


@dataclass(frozen=True)
class Result:
    """What became of a suite."""

    suite: str
    home: str
    verdict: str  # passed, failed or skipped
    remark: str  # its last line, or why it was skipped
    seconds: float


def furnish(homes: Sequence[Home]) -> dict[str, str]:
    """Install what is missing; what could not be, by name, with the reason."""
    troubles = {}
    for home in homes:
        print(f"home {home.name}: {home.why}", flush=True)
        try:
            prepare(home)
        except CannotInstall as reason:
            troubles[home.name] = str(reason)
            print(f"  {MARKS['skipped']} {reason}", flush=True)
    return troubles


def attempt(suite: Suite, trouble: str, first: Future[Result] | None) -> Result:
    """Run one suite in its home."""
    if first is not None:
        first.result()
    if trouble:
        return Result(suite.name, suite.home.name, "skipped", trouble, 0.0)
    log, start = FOLDER / f"{suite.slug}.log", time.monotonic()
    words = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(suite.home.python), "-m", f"conformance.checks.{suite.check}", *suite.words]
    with log.open("w", encoding="utf-8") as out:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=words,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=60 * suite.minutes,
                check=False,
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = None
    verdict, remark = verdict_of(code, log.read_text("utf-8", errors="replace"), suite.minutes)
    if verdict == "failed":
        remark = f"{remark} (all of it: {log.relative_to(ROOT)})"
    result = Result(suite.name, suite.home.name, verdict, remark, round(time.monotonic() - start, 1))
    print(f"{MARKS[verdict]} {suite.name} ({result.seconds:.0f} s): {remark}", flush=True)
    return result


def verdict_of(code: int | None, written: str, minutes: float) -> tuple[str, str]:
    """The verdict on a check and its last words; ``code`` is None for one that was stopped."""
    last = next((line.strip() for line in reversed(written.splitlines()) if line.strip()), "")
    if code is None:
        return "failed", f"stopped after {minutes:g} minutes; last words: {last}"
    return {0: "passed", SKIPPED: "skipped"}.get(code, "failed"), last


def main(words: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="suites whose name or module has a word")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="suites at the same time")
    parser.add_argument("--strict", action="store_true", help="a skipped suite counts as failed")
    options = parser.parse_args(words)
    targets = [w.lower() for w in options.only]
    suites = [
        s for s in SUITES if not targets or any(w in f"{s.name} {s.check} {s.home.name}".lower() for w in targets)
    ]
    if not suites:
        parser.error(f"no suite has one of {options.only}; expected words out of {', '.join(s.check for s in SUITES)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    troubles = furnish(list(dict.fromkeys(s.home for s in suites)))
    started: dict[str, Future[Result]] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for suite in suites:
            trouble = troubles.get(suite.home.name, "")
            started[suite.name] = pool.submit(attempt, suite, trouble, started.get(suite.after))
    results = [future.result() for future in started.values()]
    print()
    for result in results:
        print(f"{MARKS[result.verdict]} {result.suite:52s} {result.home:8s} {result.seconds:5.0f} s  {result.remark}")
    counts = {verdict: sum(r.verdict == verdict for r in results) for verdict in MARKS}
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    write_json(FOLDER / "results.json", [asdict(r) for r in results], indent=1)
    return int(counts["failed"] > 0 or (options.strict and counts["skipped"] > 0))


if __name__ == "__main__":
    sys.exit(main())
