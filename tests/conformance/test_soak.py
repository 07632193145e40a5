"""The soak at tiny size: it counts what it should, forgets nothing when killed, and does not cry wolf."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conformance.soak import inputs, kills, mutate, random_steps, report, run
from conformance.soak.cli import app
from conformance.soak.ledger import Ledger
from conformance.soak.mutations import FAMILIES, Attempt
from conformance.soak.run import Plan


def test_numbers_that_are_not_finite_are_found_wherever_they_hide() -> None:
    value = {
        "obs": np.array([1.0, np.nan, np.inf]),
        "info": {"deep": {"er": [1.0, float("-inf")]}, "words": np.array(["nan", None], dtype=object)},
        "whole": np.arange(3),
        "strange": np.array([np.array([np.nan]), {"x": np.nan}, 3], dtype=object),
    }  # fmt: skip
    assert dict(random_steps.nonfinite(value)) == {"obs": 2, "info.deep.er": 1, "strange": 1, "strange.x": 1}


def test_every_id_gets_its_turn_and_the_learned_world_its_share() -> None:
    every = random_steps.ids()
    planned = list(random_steps.walks(400_000, seed=0, learned=0.1))
    assert {walk.id for walk in planned} == {*every["oracle"], *every["learned"]}
    steps = {world: sum(walk.total for walk in planned if walk.world == world) for world in ("oracle", "learned")}
    assert sum(steps.values()) >= 400_000
    assert steps["learned"] / sum(steps.values()) == pytest.approx(0.1, abs=0.01)
    each = [sum(w.total for w in planned if w.id == name) for name in every["oracle"]]
    assert max(each) < 2 * min(each)
    assert planned[:5] == list(random_steps.walks(400_000, seed=0, learned=0.1))[:5]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("refused", ["noop", "raise"])
def test_a_walk_in_the_oracle_reaches_its_steps(mode: str, refused: str) -> None:
    arguments = {"risk": "limits", "invalid_action": refused, "autoreset_mode": mode, "obs": "features",
                 "horizon": 4}  # fmt: skip
    walk = random_steps.Walk(3, "ECGOracle/AFRapidResponse-v0", arguments, rows=2, steps=10, masked=refused == "raise")
    row = random_steps.take(walk, seed=0)
    assert row["faults"] == []
    assert (row["nonfinite"], row["touched"]) == (0, 0)
    assert 20 <= row["steps"] <= 21
    assert row["episodes"] >= 2


def test_a_walk_that_breaks_says_so_and_does_not_stop_the_soak() -> None:
    walk = random_steps.Walk(0, "ECGOracle/SVT-v0", {"autoreset_mode": "NextStep", "obs": "sideways"}, 2, 3, True)
    row = random_steps.take(walk, seed=0)
    assert "obs" in row["faults"][0]
    assert row["steps"] == 0


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ValueError("x is 3; expected 4; pass x=4"), "refused"),
        (TypeError("x is 'a'; expected a number; leave it out"), "refused"),
        (ValueError("could not convert string to float: 'a'"), "traceback"),
        (KeyError("x is 3; expected 4; pass x=4"), "traceback"),
        (TypeError("unsupported operand; unexpected; really"), "traceback"),
    ],
)
def test_a_sentence_in_three_parts_of_a_documented_type_is_a_refusal(error: Exception, verdict: str) -> None:
    assert inputs.verdict(error) == verdict


def _attempt(monkeypatch: pytest.MonkeyPatch, use: Any) -> dict[str, Any]:
    def family(rng: np.random.Generator, folder: Path) -> Attempt:
        (folder / "given.txt").write_text("as it was")
        return Attempt("something", lambda: use(folder))

    monkeypatch.setattr(inputs, "FAMILIES", {"mine": family})
    return inputs.try_one(0, 0)


def test_harm_randomness_and_tracebacks_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attempt(monkeypatch, lambda folder: None)["verdict"] == "taken"
    harmed = _attempt(monkeypatch, lambda folder: (folder / "given.txt").write_text("changed"))
    assert (harmed["harmed"], harmed["verdict"]) == (1, "taken")
    assert _attempt(monkeypatch, lambda folder: (folder / "more").touch())["harmed"] == 1
    rolled = _attempt(monkeypatch, lambda folder: np.random.rand())  # noqa: NPY002
    assert rolled["touched"] == 1
    broken = _attempt(monkeypatch, lambda folder: {}["key"])
    assert (broken["verdict"], broken["type"]) == ("traceback", "KeyError")
    monkeypatch.setattr(inputs, "TOO_LONG_S", 1)
    slow = _attempt(monkeypatch, lambda folder: [None for _ in iter(int, 1)])
    assert slow["type"] == "TimeoutError"


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("checkpoint")])
def test_two_inputs_of_every_family_meet_a_sentence(name: str) -> None:
    place = list(FAMILIES).index(name)
    for number in (place, place + len(FAMILIES)):
        assert inputs.family_of(number) == name
        result = inputs.try_one(0, number)
        assert result["verdict"] in ("taken", "refused"), result
        assert (result["harmed"], result["touched"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("checkpoint")])
def test_damaged_weights_meet_a_sentence(name: str) -> None:
    place = list(FAMILIES).index(name)
    for number in range(place, place + 10 * len(FAMILIES), len(FAMILIES)):
        result = inputs.try_one(0, number)
        assert result["verdict"] in ("taken", "refused"), result
        assert (result["harmed"], result["touched"]) == (0, 0)


def test_mutations_change_something_and_leave_the_original_alone() -> None:
    tree = {"a": {"b": [1, {"c": 2.0}]}, "d": "text"}
    kept = json.dumps(tree)
    rng = np.random.default_rng(0)
    changed = [repr(mutate.some_tree(tree, rng)[0]) != repr(tree) for _ in range(200)]
    assert np.mean(changed) > 0.9
    assert json.dumps(tree) == kept
    assert {type(mutate.some_bytes(b"abcdefgh", rng)[0]) for _ in range(50)} == {bytes}


def test_a_ledger_survives_a_line_that_was_cut(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("steps", {"key": 1, "steps": 5})
    with open(tmp_path / "steps.jsonl", "a", encoding="utf-8") as file:
        file.write('{"key": 2, "ste')
    assert [row["key"] for row in ledger.rows("steps")] == [1]
    ledger.add("steps", {"key": 2, "steps": 7})
    ledger.add("steps", {"key": 2, "steps": 9})  # done twice after a kill: counts once
    assert [(row["key"], row["steps"]) for row in ledger.rows("steps")] == [(1, 5), (2, 7)]
    ledger.claim({"seed": 0})
    ledger.claim({"seed": 0})
    with pytest.raises(ValueError, match="another --out"):
        ledger.claim({"seed": 1})


def test_a_soak_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(steps=48, inputs=4, kills=0, learned=0.0)
    monkeypatch.setattr(inputs, "CHUNK", 2)
    pieces = run.run(plan, tmp_path, workers=0)
    assert [next(pieces)[0], next(pieces)[0]] == ["inputs", "inputs"]
    pieces.close()
    assert (
        run.remaining(plan, tmp_path) == {"steps": 48 + 16, "inputs": 0, "kills": 0}
        or run.remaining(plan, tmp_path)["inputs"] == 0
    )
    rest = list(run.run(plan, tmp_path, workers=0))
    assert {kind for kind, _ in rest} == {"steps"}
    document = report.document(plan, tmp_path)
    assert document["inputs"] == 4
    assert document["steps"] >= 48
    assert document["complete"]
    assert report.good(document), document["faults"]
    assert list(run.run(plan, tmp_path, workers=0)) == []


COUNTER = """
import pathlib, sys, time
path = pathlib.Path(sys.argv[1]) / "rows.jsonl"
path.parent.mkdir(exist_ok=True, parents=True)
done = path.read_text().splitlines() if path.exists() else []
for i in range(len(done), 6):
    time.sleep(0.05)
    with open(path, "a") as file:
        print(i, file=file)
"""


def _counted(folder: Path) -> dict[str, str]:
    return {line: line for line in (folder / "rows.jsonl").read_text().splitlines()}


def _counting(monkeypatch: pytest.MonkeyPatch) -> kills.Job:
    """A job that counts to six on disk, a line at a time, and goes on where it was."""
    monkeypatch.setattr(kills, "_command", lambda job, folder: [sys.executable, "-c", COUNTER, str(folder)])
    return kills.Job("count", lambda folder: [], _counted)


def test_a_job_that_goes_on_loses_nothing_by_being_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = kills.strike(_counting(monkeypatch), 2, seed=3, folder=tmp_path / "struck")
    assert (result["results"], result["lost"]) == (6, 0)
    assert result["kills"] >= 1


def test_what_is_lost_after_a_kill_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, folder = _counting(monkeypatch), tmp_path / "struck"
    folder.mkdir()

    def killed(job: kills.Job, folder: Path, *when: Any) -> int:
        (folder / "rows.jsonl").write_text("0\n1\n7\n")  # the third row is of another run
        return 1

    monkeypatch.setattr(kills, "_killed", killed)
    result = kills.strike(job, 1, seed=1, folder=folder)
    assert (result["kills"], result["lost"], result["what"]) == (1, 2, ["2", "7"])
    monkeypatch.setattr(kills, "_command", lambda job, folder: [sys.executable, "-c", "raise SystemExit(3)"])
    assert kills.strike(job, 1, seed=1, folder=folder)["lost"] == 6 + 1  # it cannot be resumed


def test_results_of_an_evaluation_leave_out_how_long_it_took(tmp_path: Path) -> None:
    row = {"scenario": "svt", "training_seed": 0, "patient": 0, "risk_hours": 1.0, "seconds": 3.2, "revision": "abc"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    first = kills.evaluation_results(tmp_path)
    assert list(first) == ["rows.jsonl patient=0 scenario=svt training_seed=0"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "seconds": 9.9, "revision": "def"}) + "\n")
    assert kills.evaluation_results(tmp_path) == first
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "risk_hours": 1.5}) + "\n")
    assert kills.evaluation_results(tmp_path) != first


def test_memory_that_grows_has_a_slope() -> None:
    rows = [
        {"pid": 1, "world": "oracle", "steps": 1000, "mb_after": 300 + (0.5 * i if i > 4 else 10 * i)}
        for i in range(40)
    ]
    result = report.memory(rows)
    assert result["mb_per_100k_steps_second_half"] == pytest.approx(50)
    flat = report.memory([{**row, "mb_after": 300.0} for row in rows])
    assert flat["mb_per_100k_steps_second_half"] == pytest.approx(0, abs=1e-9)
    assert report.memory(rows[:3])["mb_per_100k_steps_second_half"] is None


def test_the_command_prints_one_document(tmp_path: Path) -> None:
    words = ["--steps", "16", "--inputs", "3", "--kills", "0", "--learned", "0", "--workers", "0"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path), "--json"])
    result = json.loads(done.stdout)
    assert done.exit_code == 0, result
    assert set(result) >= {"steps", "nonfinite", "inputs", "tracebacks", "files_harmed", "kills", "lost"}
    assert result["steps"] >= 16
    assert json.loads((tmp_path / "soak.json").read_text()) == result
