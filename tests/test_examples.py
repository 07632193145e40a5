"""Every example runs as printed, at a small size."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_first_episode(capsys) -> None:
    total = example("first_episode")["main"](seed=1)
    assert total <= 0
    assert "QTcF" in capsys.readouterr().out


def test_your_own_planner() -> None:
    returns = example("your_own_planner")["main"](episodes=1)
    assert set(returns) == {"RateRule", "WatchAndWait", "RandomPlanner"}


def test_your_own_world() -> None:
    ranked = example("your_own_world")["main"](drugs=("dofetilide",), k=4)
    assert {row.tie for row in ranked.candidates} == {1}, "nothing happens in this world, so nothing can win"


def test_plan_for_a_record(tmp_path, real_data) -> None:
    record = next(iter(sorted(real_data("ludb").rglob("*.hea")))).with_suffix("")
    ranked = example("plan_for_a_record")["main"](str(record), str(tmp_path / "plan.png"), drugs=("dofetilide",), k=2)
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    assert ranked.model_sha256


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested
