"""Every example runs, at a small size, where all extras are there; one that skips for want of an extra has failed."""

from __future__ import annotations

import os
import subprocess
import sys

from conformance.script import HIDDEN, ROOT, run


def check() -> str:
    words = {**os.environ, "MINARI_DATASETS_PATH": str(HIDDEN / "minari-examples")}
    command = [sys.executable, "-m", "pytest", "tests/test_examples.py", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=words, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="\n")
    if done.returncode or "is not installed" in done.stdout:
        raise SystemExit(1)
    return done.stdout.strip().splitlines()[-1].strip("= ")


if __name__ == "__main__":
    run(check)
