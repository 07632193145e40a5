"""A run's record: what it says, that it stays true over stops and resumes, and whom it turns away."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from ecg_gym import checkpoint
from training import loop, run_record
from training.cli.app import app
from training.cli.train import _seeded
from training.loop import AnotherRun, Batch, LoopConfig
from training.revision import git_revision
from training.run_record import data_hash, read, record_run

torch.set_num_threads(1)


@dataclass(frozen=True)
class Preset:
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=6, warmup=1, save_every=2, seed=7))
    batch: int = 8
    sizes: tuple[int, ...] = (1, 2)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 1)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return (self.linear(batch["x"]) - 1).square().mean(), {}


def draw(rng: np.random.Generator) -> Batch:
    return {"x": torch.from_numpy(rng.standard_normal((8, 4)).astype(np.float32))}


def work(preset: Preset, folder: Path, stop_at: int = -1) -> Path:
    """A run in small: makes its data, trains, writes weights with metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "strips.npz").exists():
        (folder / "strips.npz").write_bytes(b"some strips")
    state = run_record.resume(Line(), preset.loop, folder)
    for step, _ in loop.train(state, draw, folder):
        if step == stop_at:
            raise KeyboardInterrupt
    path = folder / "line.safetensors"
    checkpoint.save(path, "line", state.ema.state_dict(), {}, data={"sources": []}, metrics={"error": 0.5})
    return path


def run(folder: Path, preset: Preset | None = None, stop_at: int = -1, kind: str = "line", **more) -> dict:
    preset = preset or Preset()
    with record_run(folder, kind, "tiny", preset, data=folder / "strips*.npz", **more) as done:
        done(work(preset, folder, stop_at))
    return read(folder)


def test_the_record_says_what_was_done(tmp_path: Path) -> None:
    run_result = run(tmp_path)
    assert (run_result["kind"], run_result["preset"], run_result["status"], run_result["steps"]) == (
        "line",
        "tiny",
        "finished",
        6,
    )
    assert run_result["config"]["sizes"] == [1, 2]
    assert run_result["config"]["loop"]["steps"] == 6
    assert run_result["seeds"] == {"loop.seed": 7}
    assert run_result["metrics"] == {"error": 0.5}
    assert run_result["weights"]["sha256"] == checkpoint.sha256(tmp_path / "line.safetensors")
    assert run_result["last_losses"] == loop.losses(tmp_path)[-1]
    assert run_result["precision"] == {"bf16": False}
    content = hashlib.sha256(b"some strips").hexdigest()
    assert run_result["data"]["sha256"] == hashlib.sha256(f"{content}  strips.npz\n".encode()).hexdigest()
    assert (run_result["data"]["files"], run_result["data"]["bytes"]) == (1, 11)
    [session] = run_result["sessions"]
    assert session["revision"] == git_revision()
    assert session["environment"]["packages"]["torch"] == torch.__version__
    assert run_result["started"] == session["started"] <= session["ended"] == run_result["ended"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_weights_say_which_run_made_them_and_stay_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    run_result = run(folder)
    plain = checkpoint.load(work(Preset(), tmp_path / "plain"), "line")
    stamped = checkpoint.load(folder / "line.safetensors", "line")
    assert stamped.metadata["run"].keys() == {"preset", "data_sha256", "device"}
    assert stamped.metadata["run"]["preset"] == "tiny"
    assert stamped.metadata["run"]["data_sha256"] == run_result["data"]["sha256"]
    assert {**plain.metadata, "run": stamped.metadata["run"]} == stamped.metadata
    assert plain.tensors.keys() == stamped.tensors.keys()
    for name, tensor in plain.tensors.items():
        assert tensor.dtype == stamped.tensors[name].dtype
        assert torch.equal(tensor, stamped.tensors[name])


def test_the_record_is_there_while_the_run_goes_on(tmp_path: Path) -> None:
    states = []
    with record_run(tmp_path, "line", "tiny", Preset(), data=tmp_path / "strips*.npz") as done:
        states.append(read(tmp_path))
        (tmp_path / "strips.npz").write_bytes(b"some strips")
        run_record.resume(Line(), Preset().loop, tmp_path)
        states.append(read(tmp_path))
        done(work(Preset(), tmp_path))
    assert [state["status"] for state in states] == ["preparing data", "training"]
    assert "sha256" not in states[0]["data"]
    assert states[1]["data"]["files"] == 1


def test_a_stopped_run_goes_on_in_the_same_record(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_at=5)
    stopped = read(tmp_path)
    assert (stopped["status"], stopped["steps"], "weights" in stopped) == ("stopped", 4, False)
    other = replace(Preset(), loop=replace(Preset().loop, save_every=3, workers=0))  # what losses do not depend on
    run_result = run(tmp_path, other)
    assert (run_result["status"], run_result["steps"], len(run_result["sessions"])) == ("finished", 6, 2)
    assert run_result["sessions"][0] == stopped["sessions"][0]
    assert run_result["data"] == stopped["data"]
    assert "error" not in run_result
    whole = run(tmp_path.with_name("whole"))
    assert loop.losses(tmp_path) == loop.losses(tmp_path.with_name("whole"))
    assert run_result["weights"] == whole["weights"]


def test_a_seed_reaches_the_loops_of_all_stages_and_no_data() -> None:
    @dataclass(frozen=True)
    class Design:
        seed: int = 2026

    @dataclass(frozen=True)
    class TwoStages(Preset):
        first: Preset = field(default_factory=Preset)
        design: Design = field(default_factory=Design)

    seeded = _seeded(TwoStages(), 5)
    assert (seeded.loop.seed, seeded.first.loop.seed, seeded.design.seed) == (5, 5, 2026)
    assert replace(seeded, loop=Preset().loop, first=Preset()) == TwoStages()


def test_a_stage_may_be_saved_in_another_rhythm_and_not_be_another_run(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class TwoStages(Preset):
        first: Preset = field(default_factory=Preset)

    run(tmp_path, TwoStages())
    run(tmp_path, TwoStages(first=Preset(loop=replace(Preset().loop, save_every=5))))
    with pytest.raises(
        AnotherRun, match=r"first.loop.steps = 6; expected line --preset tiny with first.loop.steps = 7"
    ):
        run(tmp_path, TwoStages(first=Preset(loop=replace(Preset().loop, steps=7))))


def test_a_failure_is_recorded_and_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), record_run(tmp_path, "line", "tiny", Preset(), data=tmp_path / "x"):
        _ = 1 / 0
    assert (read(tmp_path)["status"], read(tmp_path)["error"]) == ("failed", "ZeroDivisionError: division by zero")


def test_another_run_is_turned_away_and_the_record_stays(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(AnotherRun, match=r"a run of line --preset tiny, begun .*; expected risk --preset tiny; pass"):
        run(tmp_path, kind="risk")
    with pytest.raises(AnotherRun, match=r"with batch = 8; expected line --preset tiny with batch = 9; pass another"):
        run(tmp_path, replace(Preset(), batch=9))
    with pytest.raises(
        AnotherRun, match=r"loop.seed = 7; expected .* loop.seed = 8; pass another --out, or begin anew"
    ):
        run(tmp_path, replace(Preset(), loop=replace(Preset().loop, seed=8)))
    weights = tmp_path / "line.safetensors"
    with pytest.raises(AnotherRun, match=rf"with start = none; expected .* start = {checkpoint.sha256(weights)[:12]}"):
        run(tmp_path, inputs={"start": weights})
    (tmp_path / "strips_more.npz").write_bytes(b"more")
    with pytest.raises(AnotherRun, match=r"was trained on 1 files with .* now finds 2 with .*; expected the same data"):
        run(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before


def test_begun_anew_the_earlier_run_is_kept_aside_and_its_data_are_used(tmp_path: Path) -> None:
    first = run(tmp_path)
    (tmp_path / "codec.safetensors").write_bytes(b"another's")
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / loop.STATE).write_bytes(b"of an earlier stage")
    second = run(tmp_path, replace(Preset(), loop=replace(Preset().loop, seed=8)), resume=False)
    assert len(second["sessions"]) == 1
    assert second["data"] == first["data"]
    assert second["weights"] != first["weights"]
    assert json.loads((tmp_path / "earlier-1" / "run.json").read_text()) == first
    kept = sorted(path.name for path in (tmp_path / "earlier-1").iterdir())
    assert kept == ["line.safetensors", "losses.jsonl", "run.json", "stage", "state.safetensors"]
    run(tmp_path, resume=False)
    assert (tmp_path / "earlier-2").is_dir()
    here = sorted(path.name for path in tmp_path.iterdir() if path.name not in kept)
    assert here == ["codec.safetensors", "earlier-1", "earlier-2", "strips.npz"]


def test_processes_but_the_first_leave_the_record_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with record_run(tmp_path, "line", "tiny", Preset(), data=tmp_path / "strips*.npz", resume=False) as done:
        run_record.record_data_hash(tmp_path)
        done(tmp_path / "nothing.safetensors")
    for _ in loop.train(loop.start(Line(), Preset().loop), draw, tmp_path):
        pass
    assert not os.listdir(tmp_path)


def test_the_hash_of_data_is_that_of_names_and_contents(tmp_path: Path) -> None:
    def made(folder: str, **contents: bytes) -> str:
        for name, content in contents.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.npz").write_bytes(content)
        return data_hash(tmp_path / folder / "*.npz")["sha256"]

    assert made("a", x=b"1", y=b"2") == made("b", y=b"2", x=b"1")
    assert len({made("a"), made("c", x=b"2", y=b"1"), made("d", x=b"1"), made("e", x=b"1", z=b"2")}) == 4


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no run.json; expected the folder of a run; make one"):
        read(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match=r"has format 99; expected 1; begin anew"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["vae", "world-model", "risk", "student"])
def test_all_training_commands_take_the_same_options_and_refuse_alike(tmp_path: Path, kind: str) -> None:
    def refused(*words: object) -> str:
        result = CliRunner().invoke(app, ["train", kind, *map(str, words), "--out", str(tmp_path / "run")])
        message = " ".join(result.stderr.split())
        assert result.exit_code == 2, (result.output, result.exception)
        assert message.startswith("refused")
        assert not (tmp_path / "run").exists()
        return message

    assert "preset is 'huge'; expected one of" in refused("--preset", "huge")
    assert "device is 'gpu'; expected cpu, cuda" in refused("--preset", "tiny", "--device", "gpu")
    assert "--devices is 0; expected at least 1" in refused("--preset", "tiny", "--devices", 0)
    words = CliRunner().invoke(app, ["train", kind, "--help"], env={"COLUMNS": "200"}).output
    for option in ("--preset", "--device", "--devices", "--resume", "--no-resume", "--out", "--seed"):
        assert option in words


@pytest.mark.slow
def test_a_training_command_records_resumes_and_refuses(tmp_path: Path) -> None:
    def train(*words: str) -> object:
        return CliRunner().invoke(app, ["train", "risk", "--preset", "tiny", "--out", str(tmp_path), *words])

    assert (first := train("--seed", "3")).exit_code == 0, first.output
    document = read(tmp_path)
    assert (document["kind"], document["status"], document["seeds"]["loop.seed"]) == ("risk", "finished", 3)
    assert document["weights"]["sha256"] == checkpoint.sha256(tmp_path / "risk.safetensors")
    assert document["metrics"].keys() >= {"virtual"}
    assert document["data"]["files"] == 1
    other = train()
    assert other.exit_code == 2
    assert "loop.seed = 3; expected risk --preset tiny with loop.seed = 0" in " ".join(other.stderr.split())
    assert train("--seed", "3").exit_code == 0
    assert read(tmp_path)["weights"] == document["weights"]
    assert len(read(tmp_path)["sessions"]) == 2
