"""Our own tests that need other people's packages, run where those are; one that skips for want of them has failed.

The words of the command line are pytest's: files, ``-k`` and what else chooses among them.
"""

from __future__ import annotations

import os
import subprocess
import sys

from conformance.script import HIDDEN, ROOT, run


def check() -> str:
    words = {**os.environ, "MINARI_DATASETS_PATH": str(HIDDEN / "minari-examples")}
    command = [sys.executable, "-m", "pytest", *sys.argv[1:], "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=words, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="\n")
    if done.returncode or "not installed" in done.stdout:
        raise SystemExit(1)
    return done.stdout.strip().splitlines()[-1].strip("= ")


if __name__ == "__main__":
    run(check)
