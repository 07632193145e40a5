"""What is built holds what it should: code and weights in the wheel, and examples, pages and tests in the sdist too."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import ecg_gym

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_said_once_and_quoted_right() -> None:
    assert "version" in PROJECT["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == ecg_gym.__version__


def test_every_extra_that_is_named_exists() -> None:
    """In README, pages and messages: ``pip install -e '.[rl,train]'`` and ``'ecg-gym[rl]'``."""
    paths = [*ROOT.glob("*.md"), ROOT / "Makefile", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    paths += [p for package in ("ecg_gym", "planners", "training") for p in (ROOT / package).rglob("*.py")]
    named = set()
    for path in paths:
        for extras in re.findall(r"['\"](?:\.|ecg-gym)\[([a-z,]+)\]['\"]", path.read_text(encoding="utf-8")):
            named |= set(extras.split(","))
    assert named
    assert named <= set(PROJECT["optional-dependencies"])


def test_constraints_pin_what_the_makefile_installs() -> None:
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    extras = PROJECT["optional-dependencies"]
    installed = re.search(r'"\.\[([a-z,]+)\]"', (ROOT / "Makefile").read_text())
    assert installed is not None
    requirements = [*PROJECT["dependencies"], *(row for name in installed[1].split(",") for row in extras[name])]
    names = {re.split(r"[\[<>=]", row)[0].lower() for row in requirements} - {"setuptools"}
    assert names <= pinned


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_should(tmp_path) -> None:
    pytest.importorskip("build", reason="build is not installed; pip install 'ecg-gym[dev]'")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    wheel, sdist = next(tmp_path.glob("*.whl")), next(tmp_path.glob("*.tar.gz"))
    assert ecg_gym.__version__ in wheel.name
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == {"ecg_gym", "planners", "training"}
    for name in ("ecg_gym/assets/world_model.safetensors", "ecg_gym/assets/default_patient.dat", "ecg_gym/py.typed"):
        assert name in inside
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("examples/first_episode.py", "docs/index.md", "mkdocs.yml", "tests/test_package.py", "Makefile"):
        assert name in held
    assert not [name for name in held if name.endswith(".pyc") or "__pycache__" in name]
