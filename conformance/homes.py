"""Where checks live: one virtual environment per set of packages that get along, pinned, under the hidden folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from conformance.script import HIDDEN, ROOT

PINS = Path(__file__).with_name("homes")
TORCH = "torch==2.13.0"  # the version everything here was tested with


@dataclass(frozen=True)
class Home:
    """A virtual environment."""

    name: str
    packages: tuple[str, ...]  # beside this package's own dependencies
    why: str
    bare: bool = False  # only what is named: this package is read from the working tree, without its dependencies

    @property
    def pins(self) -> Path:
        """Every version, as it was tested."""
        return PINS / f"{self.name}.txt"

    @property
    def python(self) -> Path:
        """The interpreter."""
        return HIDDEN / self.name / ("Scripts" if sys.platform == "win32" else "bin") / "python"


@dataclass(frozen=True)
class Here(Home):
    """The environment that this program runs in; nothing is installed."""

    @property
    def python(self) -> Path:
        """The running interpreter."""
        return Path(sys.executable)


HERE = Here("here", (), "the development environment: Gymnasium 1.4 and stable-baselines3")
LATEST = Home(
    "latest",
    (TORCH, "-e", ".[rl]", "rl-zoo3", "torchrl", "minari[create,hdf5]", "moviepy", "rliable", "pytest"),
    "what runs with Gymnasium 1.4 and clashes with the pins of `make test`",
)
SETTLED = Home(
    "settled",
    (TORCH, "-e", ".[rl]", "ray[rllib]", "d3rlpy", "minari[create,hdf5]", "pytest"),
    "RLlib and d3rlpy pin Gymnasium 1.2.2 and older",
)
OLDEST = Home(
    "oldest",
    ("gymnasium==1.1.1", "numpy==2.0.*", "scipy", "pyyaml", "wfdb", "neurokit2", "pytest"),
    "the lower bounds of this package, and no torch: the virtual patient alone",
    bare=True,
)


class CannotInstall(Exception):
    """pip could not furnish a home; the message is its last word."""


def prepare(home: Home) -> None:
    """Furnish a home once for each change of its packages or pins; :class:`CannotInstall` says why it is impossible."""
    if isinstance(home, Here):
        return
    value = "\n".join(
        [*home.packages, home.pins.read_text(encoding="utf-8"), (ROOT / "pyproject.toml").read_text("utf-8")]
    )
    state, done = hashlib.sha256(value.encode()).hexdigest(), HIDDEN / home.name / "ready"
    if done.exists() and done.read_text(encoding="utf-8") == state:
        return
    if not home.python.exists():
        venv.create(HIDDEN / home.name, with_pip=True)
    quiet = [str(home.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    arguments = [*quiet, "--constraint", str(home.pins), *home.packages]
    answer = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        complaints = [line for line in answer.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
        raise CannotInstall(f"pip cannot furnish {home.name}: {complaints[-1].removeprefix('ERROR: ')}")
    done.write_text(state, encoding="utf-8")
