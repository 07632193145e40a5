"""``discover``: the same result after ``kill -9`` as without, nothing fitted twice, and files that can be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chat_server
import ep_files
import numpy as np
import pytest
from typer.testing import CliRunner

from ecg_gym.datasets.ep import EPRecording, convert_carto, write_ep
from ecg_gym.tissue import DataSet, FitOptions
from training.cli.app import app
from training.leads.discover import AGENTS, activation_maps, discover
from training.leads.fit_files import read_fit
from training.leads.patient import data_set

ROOT = Path(__file__).resolve().parents[3]
QUICK = FitOptions(effort=0.02, newton_stages=((0.22, 1), (0.55, 1), (1.0, 1)))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return data_set(ep_files.two_beats())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ep(ep_files.two_beats(), tmp_path_factory.mktemp("case"))


def command(case: Path, out: Path, *more: str) -> list[str]:
    options = ("--data", str(case), "--out", str(out), "--budget", "3", "--effort", "0.02", *more)
    return ["leads", "discover", *options]


def history(out: Path) -> list[tuple[str, float]]:
    rows = json.loads((out / "discovery.json").read_text())["history"]
    return [(row["candidate"], row["validation_error"]) for row in rows]


@pytest.mark.slow
def test_killed_and_started_again_it_fits_only_what_is_missing(case: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert CliRunner().invoke(app, command(case, whole)).exit_code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "training.cli", *command(case, broken)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(broken.glob("fits/*.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "discovery.json").exists()
    stamps = {path.name: path.stat().st_mtime_ns for path in broken.glob("fits/*.safetensors")}
    assert 1 <= len(stamps) < 3
    result = CliRunner().invoke(app, command(case, broken))
    assert result.exit_code == 0, result.output
    after = {path.name: path.stat().st_mtime_ns for path in broken.glob("fits/*.safetensors")}
    assert stamps.items() <= after.items()
    assert history(broken) == history(whole)
    assert len(history(broken)) == 3


@pytest.mark.slow
def test_the_command_writes_what_it_promises(case: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*command(case, out), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads((out / "discovery.json").read_text())
    best = read_fit(out / "best.safetensors")
    assert best is not None
    assert document["best"]["validation_error"] == best.validation_error == min(error for _, error in history(out))
    assert document["null_validation_error"] > 0
    assert document["best"]["values"] == dict(best.values)
    assert (out / "maps.png").read_bytes()[:4] == b"\x89PNG"
    assert not [path for path in out.rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_a_chat_model_on_this_machine_and_its_transcript(case: Path, tmp_path: Path) -> None:
    def say(action: str) -> chat_server.Behaviour:
        return chat_server.completion(json.dumps({"diagnosis": "so", "action": action}))

    with chat_server.serve([say("reaction ms"), say("refine"), say("stop")]) as server:
        first = CliRunner().invoke(app, command(case, tmp_path / "a", "--agent", "llm", "--endpoint", server.url))
        requests = len(server.bodies)
        again = CliRunner().invoke(app, command(case, tmp_path / "a", "--agent", "llm", "--endpoint", server.url))
    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert requests == len(server.bodies) == 3  # the second time the transcript answers
    prompts = json.dumps(server.bodies)
    assert str(case) not in prompts
    assert case.name not in prompts
    assert [name.split()[0] for name, _ in history(tmp_path / "a")] == ["ms/iso", "ms/gcn"]


def test_what_is_refused(case: Path, tmp_path: Path, data: DataSet) -> None:
    for more, words in (
        (("--agent", "oracle"), "expected one of"),
        (("--agent", "llm"), "pass --endpoint"),
        (("--agent", "llm", "--endpoint", "http://10.0.0.1/v1"), "remote=True"),
    ):
        result = CliRunner().invoke(app, command(case, tmp_path / "x", *more))
        assert result.exit_code == 2
        assert words in result.output.replace("\n", " ")
    other = data_set(ep_files.two_beats(noise=0.03))
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "data.json").write_text(json.dumps({"data_key": other.key}))
    with pytest.raises(ValueError, match="choose another --out"):
        discover(data, tmp_path / "y", options=QUICK)
    assert set(AGENTS) >= {"greedy", "random", "llm"}


@pytest.mark.slow
def test_maps_of_fits_and_of_the_recording(data: DataSet, tmp_path: Path) -> None:
    result = discover(data, tmp_path, "random", budget=1, options=QUICK)
    assert result.best is not None
    maps = activation_maps(data, {"fit": result.best}, data.validation[0])
    assert set(maps) == {"recorded", "fit"}
    assert maps["recorded"].shape == maps["fit"].shape == (64,)
    paced = list(data.pacing[data.validation[0]].nodes[0])
    assert np.nanmedian(maps["recorded"][paced]) < np.nanmedian(maps["recorded"])


@pytest.mark.slow
def test_a_map_of_times_and_potentials_at_a_distance_are_fitted_too(tmp_path: Path) -> None:
    ep_files.write_carto(tmp_path)
    times = data_set(convert_carto(tmp_path), max_nodes=40)
    two = ep_files.two_beats(3)
    assert two.signal is not None
    field = np.random.default_rng(0).standard_normal((4, 64)) / 8
    corners = 100.0 * np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    potentials = data_set(EPRecording(
        "electrodes", corners, 500.0, np.einsum("mn,pnt->pmt", field, two.signal).astype(np.float32),
        pacing=two.pacing, nodes=two.position, lead_field=field,
    ))  # fmt: skip
    for name, one in (("times", times), ("potentials", potentials)):
        result = discover(one, tmp_path / name, "random", budget=1, options=QUICK)
        assert result.best is not None
        assert 0 < result.best.validation_error < 2 * result.null_error
        maps = activation_maps(one, {"fit": result.best}, one.validation[0])
        assert ("recorded" in maps) == (name == "times")
        assert np.isfinite(maps["fit"]).sum() > len(one.graph) / 2
