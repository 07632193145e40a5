"""The runner of other people's checks: its table is whole, its homes are pinned, and it tells failed from skipped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from conformance import script
from conformance.__main__ import main, verdict_of
from conformance.homes import HERE, OLDEST, TORCH
from conformance.suites import SUITES

CHECKS = Path(script.__file__).parent / "checks"


def test_every_check_is_in_the_table_and_every_row_has_a_check() -> None:
    assert {path.stem for path in CHECKS.glob("*.py")} - {"__init__"} == {suite.check for suite in SUITES}
    assert len({suite.name for suite in SUITES}) == len(SUITES)
    assert {suite.after for suite in SUITES} - {""} <= {suite.name for suite in SUITES}


def test_every_home_is_pinned_and_its_torch_is_the_tested_one() -> None:
    for home in {suite.home for suite in SUITES} - {HERE}:
        pins = home.pins.read_text(encoding="utf-8").splitlines()
        assert all("==" in line for line in pins if not line.startswith("#")), home.pins
        assert (TORCH in pins) != (home is OLDEST), home.name
        assert any(line.startswith("gymnasium==") for line in pins)


@pytest.mark.parametrize(
    ("code", "written", "verdict", "remark"),
    [
        (0, "a\nall is well\n\n", "passed", "all is well"),
        (script.SKIPPED, "there is no ray here\n", "skipped", "there is no ray here"),
        (1, "Traceback\nValueError: no\n", "failed", "ValueError: no"),
        (-9, "", "failed", ""),
        (None, "still at it", "failed", "stopped after 3 minutes; last words: still at it"),
    ],
)
def test_a_check_passes_fails_or_is_skipped(code, written, verdict, remark) -> None:
    assert verdict_of(code, written, 3) == (verdict, remark)


@pytest.mark.parametrize(
    ("body", "code", "remark"),
    [
        ("return 'fine'", 0, "fine"),
        ("need('a_package_that_is_not_there')", script.SKIPPED, "a_package_that_is_not_there is not installed in"),
        ("assert 1 == 2, 'two is not one'", 1, "two is not one"),
    ],
    ids=["passes", "skips", "fails"],
)
def test_a_program_says_so_by_its_exit_code(body, code, remark) -> None:
    program = f"from conformance.script import need, run\ndef check():\n    {body}\nrun(check)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=script.ROOT)
    assert done.returncode == code
    assert remark in done.stdout + done.stderr


def test_an_unknown_word_is_an_error_that_names_the_checks(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "nonsense"])
    assert "expected words out of gymnasium_checker" in capsys.readouterr().err


def test_nothing_of_it_is_in_the_wheel() -> None:
    assert importlib.util.find_spec("conformance") is not None, "it is run from the working tree"
    assert "conformance*" not in (script.ROOT / "pyproject.toml").read_text(encoding="utf-8")
