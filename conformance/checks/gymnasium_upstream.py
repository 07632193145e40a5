"""Gymnasium's own environment tests, pointed at our ids: a checkout of its sources stands beside, nothing is copied.

The tests are not in Gymnasium's wheel. They come from ``$GYMNASIUM_SOURCE``, or from a shallow clone of the release
that is installed, kept in the hidden folder. This module is also the pytest plugin that puts our ids in their place.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from conformance.script import HIDDEN, LEARNED, ORACLE, ROOT, Skip, run

REPOSITORY = "https://github.com/Farama-Foundation/Gymnasium"
OTHERS = (
    "ECGOracle/AFRapidResponse-Noisy-v0",
    "ECGOracle/Bradycardia-Missing-v0",
    "ECGOracle/AcquiredLongQT-Delayed-v0",
)
FILES = ("tests/envs/test_envs.py", "tests/envs/test_rendering.py")


def source() -> Path:
    """The folder of Gymnasium's sources; cloned if it is not there yet."""
    import gymnasium

    folder = Path(os.environ.get("GYMNASIUM_SOURCE", HIDDEN / "gymnasium-source"))
    if not folder.exists():
        tag = f"v{gymnasium.__version__}"
        clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", tag, REPOSITORY, str(folder)]
        done = subprocess.run(clone, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skip(
                f"Gymnasium's tests are not in its wheel and {REPOSITORY} {tag} could not be cloned "
                f"({done.stderr.strip().splitlines()[-1]}); set GYMNASIUM_SOURCE to a checkout"
            )
    if missing := [name for name in FILES if not (folder / name).exists()]:
        raise Skip(f"{folder} holds no {missing[0]}; set GYMNASIUM_SOURCE to a checkout of Gymnasium {REPOSITORY}")
    return folder


def pytest_configure(config: object) -> None:
    """Put our ids where Gymnasium's tests look for theirs; runs before any of its test modules is read."""
    import gymnasium as gym

    import ecg_gym  # noqa: F401 - makes the ids known

    sys.path.insert(0, str(source()))
    from tests.envs import utils  # type: ignore[attr-defined]

    specs = [gym.spec(name) for name in (LEARNED, ORACLE, *OTHERS)]
    utils.all_testing_env_specs[:] = specs
    utils.all_testing_initialised_envs[:] = [spec.make(disable_env_checker=True).unwrapped for spec in specs]


def check() -> str:
    folder = source()
    for name in FILES:
        print(name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
    command = [sys.executable, "-m", "pytest", "-p", "conformance.checks.gymnasium_upstream", "-q", "-rs"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull, "--durations=3"]
    paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [*command, *FILES],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n")
    if done.returncode:
        raise SystemExit(1)
    return done.stdout.strip().splitlines()[-1].strip("= ")


if __name__ == "__main__":
    run(check)
