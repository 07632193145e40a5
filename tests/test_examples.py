"""Every example runs as printed, at a small size."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_first_episode(capsys) -> None:
    total = example("first_episode")["main"](seed=1)
    assert total <= 0
    assert "QTcF" in capsys.readouterr().out


def test_discover_a_tissue(capsys) -> None:
    rewards = example("discover_a_tissue")["main"](case=0)
    assert rewards["greedy"] > 0.5
    assert "validation" in capsys.readouterr().out


def test_your_own_planner() -> None:
    returns = example("your_own_planner")["main"](episodes=1)
    assert set(returns) == {"RateRule", "WatchAndWait", "RandomPlanner"}


def test_your_own_world() -> None:
    ranked = example("your_own_world")["main"](drugs=("dofetilide",), k=4)
    assert {row.tie for row in ranked.candidates} == {1}, "nothing happens in this world, so nothing can win"


@pytest.mark.slow
def test_plan_for_the_record_that_ships(tmp_path) -> None:
    record = ROOT / "ecg_gym" / "assets" / "default_patient"
    ranked = example("plan_for_a_record")["main"](str(record), str(tmp_path / "plan.png"), drugs=("metoprolol",), k=2)
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    assert {str(row.treatment).split()[0] for row in ranked.candidates} <= {"watch", "metoprolol"}


def test_plan_for_a_record(tmp_path, real_data) -> None:
    record = next(iter(sorted(real_data("ludb").rglob("*.hea")))).with_suffix("")
    ranked = example("plan_for_a_record")["main"](str(record), str(tmp_path / "plan.png"), drugs=("dofetilide",), k=2)
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    assert ranked.model_sha256


def test_one_drug_one_patient(tmp_path, capsys) -> None:
    picture = tmp_path / "deep" / "one.png"
    table = example("one_drug_one_patient")["main"]("dofetilide 0.5 mg PO", str(picture))
    hours, level, with_drug, without = table.T[:4]
    assert hours.tolist() == list(range(9))
    assert level[0] == 0
    assert level.max() > 1
    assert max(with_drug - without) > 15, "dofetilide prolongs QTcF against the same person without"
    assert with_drug[0] == without[0]
    assert picture.stat().st_size > 10_000
    assert "concentration" in capsys.readouterr().out


@pytest.mark.slow
def test_your_own_drug() -> None:
    """In a process of its own: drugs are read once."""
    code = (
        "import json, runpy\n"
        f"peaks = runpy.run_path({str(EXAMPLES / 'your_own_drug.py')!r})['main'](people=3, hours=2)\n"
        "print(json.dumps(peaks))"
    )
    words = {key: value for key, value in os.environ.items() if key != "ECG_GYM_DRUGS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=words)
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks["compound_x 100 mg PO"] > peaks["compound_x 50 mg PO"] > peaks["placebo 1 mg PO"] + 5


@pytest.mark.slow
def test_train_ppo() -> None:
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed; pip install 'ecg-gym[rl]'")
    returns = example("train_ppo")["main"](steps=8, num_envs=4, episodes=2)
    assert len(returns) == 4
    assert all(-16 <= value <= 0 for value in returns.values())


@pytest.mark.slow
def test_train_without_strips(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed; pip install 'ecg-gym[rl]'")
    curve = tmp_path / "curve.csv"
    rows = example("train_without_strips")["main"]("hyperkalaemia", 1024, str(curve), looks=1, episodes=4, num_envs=8)
    assert [row["steps"] for row in rows] == [0, 1024]
    assert all(-24 <= row[name] <= 0 for row in rows for name in ("vitals", "strip", "watch_strip", "random_strip"))
    assert len(curve.read_text().splitlines()) == 3
    example("train_without_strips")["picture"](str(tmp_path / "curves.png"), str(curve))
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_your_own_reward() -> None:
    parts = example("your_own_reward")["main"]()
    assert parts["doses"] == -0.1
    assert parts["reward"] == pytest.approx(parts["risk"] + parts["doses"] + parts["lethal"])


def test_your_own_trial() -> None:
    result = example("your_own_trial")["main"](people=2)
    assert result.protocol.name == "moxifloxacin"
    assert len(result.rows) == 2 * 2 * (1 + 4) * 3, "people x periods x hours x replicates"


def test_offline_dataset(tmp_path, monkeypatch) -> None:
    for module in ("minari", "jax", "d3rlpy"):
        pytest.importorskip(module, reason=f"{module} is not installed; pip install 'ecg-gym[offline]'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    lines = example("offline_dataset")
    means = lines["main"](episodes=3, steps=10, tested=1)
    assert len(means) == 2
    assert all(-16 <= value <= 0 for value in means.values())
    minari = sys.modules["minari"]
    kept = next(iter(minari.load_dataset(lines["NAME"]).iterate_episodes()))
    probabilities = kept.infos["action_probability"][1:]
    assert ((probabilities > 0) & (probabilities <= 1)).all()


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested
