"""From a release's folder to tuned weights and their table, by the commands a user types; and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from releases import PROTOCOLS, Known, write_release
from typer.testing import CliRunner

from ecg_gym.clinical_trial import parse_protocol, run_trial
from ecg_gym.real_trials import read_manifest
from ecg_gym.world_model import WorldModel
from training.cli.app import app
from training.evaluation.real_trials import effects
from training.train_real_trials import PRESETS
from training.train_real_trials import run as train_real_trials

RUNNER = CliRunner()


def run(*words: object) -> str:
    done = RUNNER.invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: object) -> str:
    done = RUNNER.invoke(app, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--protocol`` for the small trial in the manner of ecgrdvq."""
    path = tmp_path_factory.mktemp("protocol") / "small.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(PROTOCOLS["ecgrdvq"])))
    return f"ecgrdvq={path}"


@pytest.fixture(scope="module")
def shards(look_alike: Callable[[str], Known], protocol: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journey") / "shards"
    known = look_alike("ecgrdvq")
    output = run("data", "shards", "ecgrdvq", "--data", known.folder, "--protocol", protocol, "--out", folder, "--json")
    document = json.loads(output)
    assert document["people"] == {"train": 1, "validation": 1, "test": 1}
    assert document["left_out"] == {"a lead is flat": 1}
    assert document["strips"] == len(known.rows) - 1
    return folder


def test_the_page_is_printed_and_written(look_alike: Callable[[str], Known], protocol: str, tmp_path: Path) -> None:
    known = look_alike("ecgrdvq")
    document = json.loads(run("data", "check", "ecgrdvq", "--data", known.folder, "--protocol", protocol,
                              "--out", tmp_path / "page.md", "--json"))  # fmt: skip
    assert document["trial"] == "ecgrdvq"
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# ecgrdvq: ECG Effects of")
    assert "| PR wrapped by 2^32 | 2 | 1 | **differs** 2^32 added |" in page


def test_a_pairs_csv_is_checked_by_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("record_before,record_after,hours_between,subject\na,b,-1,7\n")
    message = refused("data", "check", path)
    assert "row 2, column record_before: there is no a.hea" in message
    assert "row 2, column hours_between: it is '-1'; expected a number from 0.001" in message
    assert len(json.loads(run("data", "check", path, "--json"))["mistakes"]) == 3


def test_a_pairs_csv_becomes_shards(look_alike: Callable[[str], Known], tmp_path: Path) -> None:
    known = look_alike("ecgrdvq")
    rows = [row for row in known.rows if row["ARM"] != "placebo" and row["TPT"] in (-0.5, 2.5)]
    by_key: dict[tuple, dict[float, str]] = {}
    for row in rows:
        place = by_key.setdefault((row["RANDID"], row["ARM"]), {})
        place.setdefault(row["TPT"], f"raw/{row['RANDID']}/{row['EGREFID']}")
    lines = ["record_before,record_after,hours_between,subject,doses,split"]
    sides = {1001: "train", 1002: "validation", 1003: "test"}
    for (subject, arm), records in by_key.items():
        dose = {"dofetilide": "dofetilide 500 mcg PO @ 0.5h", "ranolazine": "ranolazine 1500 mg PO @ 0.5h"}[arm]
        lines.append(f"{records[-0.5]},{records[2.5]},3,{subject},{dose},{sides[subject]}")
    path = known.folder / "mine.csv"
    path.write_text("\n".join(lines) + "\n")
    try:
        document = json.loads(run("data", "shards", path, "--out", tmp_path / "out", "--json"))
    finally:
        path.unlink()
    assert document["people"] == {"train": 1, "validation": 1, "test": 1}
    assert document["pairs"] == {"baseline": 6}
    assert {trial.arm for trial in read_manifest(tmp_path / "out").trials} == {"dofetilide", "ranolazine"}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("data", "check", "ecgxyz"), "name is 'ecgxyz'; expected one of ecgrdvq, ecgdmmld, ecgcipa, or the path of a"),
        (
            ("data", "check", "ecgrdvq", "--data", "/nowhere"),
            "/nowhere holds no ecgrdvq (SCR-002.Clinical.Data.csv is in",
        ),
        (("data", "check", "ecgrdvq", "--protocol", "x.yaml"), "--protocol is 'x.yaml'; expected NAME=FILE"),
        (
            ("data", "shards", "ecgrdvq", "--out", "x", "--profile", "half"),
            "profile is 'half'; expected one of full, paper",
        ),
        (
            ("study", "real-effects", "--trials", "/nowhere"),
            "/nowhere has no trials.json; expected shards of real ECGs",
        ),
        (
            ("study", "intervals", "--trials", "/nowhere", "--hours", "two"),
            "--hours holds 'two'; expected hours with commas",
        ),
    ],
)
def test_what_is_wrong_is_said(words: tuple, answer: str) -> None:
    assert answer in refused(*words)


@pytest.fixture(scope="module")
def tuned(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    run("train", "world-model", "--trials", shards, "--start", "shipped", "--preset", "tiny", "--out", out)
    return out


@pytest.mark.slow
def test_the_whole_way_from_a_release_to_tuned_weights_and_their_table(
    shards: Path, tuned: Path, tmp_path: Path
) -> None:
    out = tuned
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["kind"]) == ("finished", "world-model")
    world = WorldModel.load(out)
    assert world.metadata["started_from"] == WorldModel.load().sha256
    for stage in ("interval_model", "denoiser"):
        scores = [row["score"] for row in world.metadata["metrics"][stage]]
        assert len(scores) == 3
    study = ("--trials", shards, "--model", out, "--intervals-only", "--json")
    effects = json.loads(run("study", "real-effects", *study, "--samples", 4, "--out", tmp_path / "effects"))
    assert (effects["model_sha256"], effects["settings"]["reference"]) == (world.sha256, "published")
    rivals = {"recorded", "no change", "pharmacology alone", "treatment mean", "nothing given", "wrong drug"}
    assert set(effects["metrics"]["effect_error_qtcf"]["baselines"]) == rivals
    assert effects["metrics"]["effect_error_placebo_qtcf"]["n"] == 2
    assert abs(effects["metrics"]["delineation_bias_qtcf"]["value"]) < 10
    assert (tmp_path / "effects" / "real-effects.png").is_file()
    intervals = json.loads(run("study", "intervals", *study, "--hours", "2.5", "--samples", 3, "--out", tmp_path / "i"))
    assert intervals["settings"]["n_questions"] == 9
    calibration = json.loads(run("study", "calibration", *study, "--out", tmp_path / "c"))
    assert calibration["metrics"]["coverage90_qtcf"]["baselines"].keys() == {"raw"}
    left = json.loads(run("study", "leave-one-out", "--trials", shards, "--preset", "tiny", "--samples", 2,
                          "--subjects", 1, "--json", "--out", tmp_path / "l"))  # fmt: skip
    assert "as it began" in left["metrics"]["mae_qtcf"]["baselines"]


@pytest.mark.slow
def test_tuning_finds_in_strangers_what_pharmacology_does_not_know(tmp_path: Path) -> None:
    """A trial in which everybody got half of the doses that its protocol says; three of its people are tested."""
    data = yaml.safe_load(PROTOCOLS["ecgrdvq"]) | {"subjects": 12, "population": {"potassium": 4.2}}
    data["ecg"] = {"baseline_h": [-0.5], "hours": [1, 2.5, 5], "replicates": 1}
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(data))
    for arm in data["arms"].values():
        for dose in arm["doses"]:
            dose["dose"] *= 0.5
    rows = run_trial(parse_protocol(data), seed=5, out=tmp_path / "trial").rows
    write_release("ecgrdvq", tmp_path / "trial", rows, tmp_path / "release", defects=False)
    run(
        "data",
        "shards",
        "ecgrdvq",
        "--data",
        tmp_path / "release",
        "--protocol",
        f"ecgrdvq={path}",
        "--out",
        tmp_path / "s",
    )
    usual = PRESETS["default"]
    small = replace(usual.interval_model, batch=64, loop=replace(usual.interval_model.loop, steps=200))
    preset = replace(usual, interval_model=small, loop=replace(usual.loop, steps=0))  # the interval model alone
    tuned = train_real_trials(preset, tmp_path / "s", tmp_path / "run", show=False)
    errors = {}
    for name, world in (("shipped", WorldModel.load()), ("tuned", WorldModel.load(tuned))):
        metrics = effects.study(world, tmp_path / "s", "test", 64, draw_strips=False)["metrics"]
        errors[name] = metrics["effect_error_qtcf"]
    others = [errors["tuned"]["baselines"][rival] for rival in ("no change", "pharmacology alone")]
    # at least a quarter better than the best of those who believe in the full doses
    assert errors["tuned"]["value"] < 0.75 * min(*others, errors["shipped"]["value"])


@pytest.mark.slow
def test_a_finished_run_stays_as_it_is_and_another_is_refused(shards: Path, tuned: Path) -> None:
    words = ("train", "world-model", "--trials", shards, "--preset", "tiny", "--out", tuned)
    first = WorldModel.load(tuned).forecaster.state_dict()
    run(*words)
    again = WorldModel.load(tuned).forecaster.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first), "what was best is kept"
    assert "expected" in refused(*words, "--seed", 5)
