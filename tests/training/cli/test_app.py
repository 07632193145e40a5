"""``ecg-gym plan`` from file to ranked table; and every way it refuses: exit code 2, one message, nothing written."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import chat_server as server
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ecg_gym import checkpoint
from ecg_gym.checkpoint import ASSETS
from ecg_gym.core import ECG, LEADS
from ecg_gym.datasets.records import write_record
from ecg_gym.foreign.ecgfounder import KIND, FounderConfig, FounderNet
from training.cli.app import DEMO, app
from training.cli.default_patient import SCENARIO

KEYS = {"record", "patient", "k", "risk_aversion", "seed", "model_sha256", "candidates"}
ROW = {"treatment", "mean", "sd", "score", "score_ci", "n_nonfinite", "intervals"}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    import wfdb

    return wfdb.rdrecord(str(DEMO)).p_signal.T  # (12, 5000) [mV]


def a_record(folder: Path, signal: np.ndarray, **more: object) -> Path:
    import wfdb

    plain = {"fmt": ["16"] * 12, "adc_gain": [1000.0] * 12, "baseline": [0] * 12}
    usual = {"fs": 500, "units": ["mV"] * 12, "sig_name": list(LEADS), **plain, **more}
    wfdb.wrsamp("r", p_signal=signal.T, write_dir=str(folder), **usual)
    return folder / "r"


def refused(result: Result, out: Path, *words: str) -> None:
    """Exit code 2, the words on stderr, no traceback, nothing written."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    message = " ".join(result.stderr.split())
    assert message.startswith("refused")
    assert "Traceback" not in message
    assert message.count(";") >= 2  # what arrived; what was expected; what to do
    for word in words:
        assert word in message, message
    assert not out.exists()


def test_a_record_becomes_a_ranked_plan_and_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "plan"
    words = ("plan", DEMO, "--scenario", SCENARIO, "--drugs", "diltiazem,dofetilide,placebo")
    result = run(*words, "--samples", 4, "--seed", 3, "--out", out, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    document = json.loads(result.stdout)
    assert set(document) >= KEYS
    assert document["k"] == 4
    assert document["seed"] == 3
    assert len(document["model_sha256"]) == 64
    rows = document["candidates"]
    assert all(set(row) >= ROW for row in rows)
    assert "watch and wait" in [row["treatment"] for row in rows]
    assert document["recommendation"]["treatment"] == rows[0]["treatment"]
    watching = next(i for i, row in enumerate(rows) if row["treatment"] == "watch and wait")
    assert all(row["better_than_watching"] for row in rows[:watching])
    assert not any(row["better_than_watching"] for row in rows[watching:])
    below = [row["score"] for row in rows[watching + 1 :]]
    assert below == sorted(below)
    assert [row["indicated"] for row in rows if row["treatment"].startswith("placebo")] == [False]
    assert json.loads((out / "plan.json").read_text()) == document
    assert (out / "plan.png").stat().st_size > 20_000
    assert sorted(path.name for path in out.iterdir()) == ["plan.json", "plan.png"]
    again = run(*words, "--samples", 4, "--seed", 3, "--out", tmp_path / "again", "--json")
    assert json.loads(again.stdout) == document


def test_a_plan_in_the_world_of_a_fitted_tissue(tmp_path: Path) -> None:
    words = ("plan", DEMO, "--scenario", SCENARIO, "--drugs", "diltiazem", "--world", "tissue")
    result = run(*words, "--samples", 2, "--out", tmp_path / "plan", "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    document = json.loads(result.stdout)
    assert document["model_sha256"] == ""  # no weights imagined it
    names = [row["treatment"] for row in document["candidates"]]
    assert "watch and wait" in names
    assert any(name.startswith("diltiazem") for name in names)
    refused(run(*words, "--model", tmp_path, "--out", tmp_path / "no"), tmp_path / "no", "--world tissue", "--model")


def test_a_proposer_a_second_opinion_and_a_choice_go_into_the_plan(tmp_path: Path) -> None:
    judge, out = tmp_path / "judge.safetensors", tmp_path / "plan"
    network = FounderNet(FounderConfig(widths=(8, 12), blocks=(1, 1), group_width=4))
    checkpoint.save(judge, KIND, network.state_dict(), asdict(network.config), data={}, metrics={}, half=False)
    item = {"drug": "diltiazem", "amount": 20, "unit": "mg", "route": "IV", "why": "slows the rate"}
    proposals = {"proposals": [item, {**item, "amount": 20_000}], "abstain": False}
    choice = {"reason": "nothing is needed", "action": "watch and wait"}
    with server.serve([server.completion(json.dumps(answer)) for answer in (proposals, choice)]) as stub:
        result = run(
            "plan", DEMO, "--scenario", SCENARIO, "--proposer", "llm", "--endpoint", stub.url, "--recommend",
            "--second-opinion", judge, "--samples", 2, "--out", out, "--json",
        )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    document = json.loads(result.stdout)
    assert "Proposer llm: 2 proposals, 1 ranked, 1 refused." in document["warnings"]
    assert document["choice"]["treatment"] == "watch and wait"
    assert document["second_opinion"]["judge"] == "ecgfounder"
    names = {row["treatment"] for row in document["candidates"]}
    assert {row["treatment"] for row in document["second_opinion"]["rows"]} == names
    assert (out / "transcript.jsonl").is_file()
    sent = json.dumps(stub.bodies)
    assert "default_patient" not in sent


def test_the_table_names_what_was_left_out(tmp_path: Path) -> None:
    result = run("plan", DEMO, "--drugs", "placebo", "--samples", 2, "--out", tmp_path / "p")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "watch and wait" in result.stdout
    assert "Research only" in result.stderr


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    refused(run("plan", tmp_path / "nothing", "--out", tmp_path / "o"), tmp_path / "o", "nothing")


def test_a_header_without_its_signal(tmp_path: Path, signal: np.ndarray) -> None:
    path = a_record(tmp_path, signal)
    path.with_suffix(".dat").unlink()
    refused(run("plan", path, "--out", tmp_path / "o"), tmp_path / "o", "r.dat")


def test_a_truncated_signal(tmp_path: Path, signal: np.ndarray) -> None:
    path = a_record(tmp_path, signal)
    whole = path.with_suffix(".dat").read_bytes()
    path.with_suffix(".dat").write_bytes(whole[: len(whole) // 2])
    refused(run("plan", path, "--out", tmp_path / "o"), tmp_path / "o")


@pytest.mark.parametrize("names", [[*LEADS[:11], "V5"], [*LEADS[:11], "X"]])
def test_missing_or_duplicate_leads(tmp_path: Path, signal: np.ndarray, names: list[str]) -> None:
    path = a_record(tmp_path, signal)
    header = path.with_suffix(".hea").read_text()
    path.with_suffix(".hea").write_text(header.replace(" V6\n", f" {names[-1]}\n"))
    refused(run("plan", path, "--out", tmp_path / "o"), tmp_path / "o", "V")


def test_an_unknown_unit(tmp_path: Path, signal: np.ndarray) -> None:
    path = a_record(tmp_path, signal)
    header = path.with_suffix(".hea").read_text()
    path.with_suffix(".hea").write_text(header.replace("/mV", "/furlong"))
    refused(run("plan", path, "--out", tmp_path / "o"), tmp_path / "o", "furlong")


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_flat_or_unknown_lead_is_refused_unless_allowed(tmp_path: Path, signal: np.ndarray, value: float) -> None:
    broken = signal.copy()
    broken[LEADS.index("V3")] = value
    path = a_record(tmp_path, broken)
    refused(run("plan", path, "--out", tmp_path / "o"), tmp_path / "o", "V3", "--allow-missing-leads")
    words = ("plan", path, "--allow-missing-leads", "--drugs", "placebo", "--samples", 2, "--json")
    allowed = run(*words, "--out", tmp_path / "o")
    assert allowed.exit_code == 0, (allowed.output, allowed.exception)
    assert "V3" in allowed.stderr


def test_a_strip_without_beats(tmp_path: Path) -> None:
    noise = 0.005 * np.random.default_rng(0).standard_normal((12, 5000))
    refused(run("plan", a_record(tmp_path, noise), "--out", tmp_path / "o"), tmp_path / "o", "beats")


def test_fewer_than_eight_seconds(tmp_path: Path, signal: np.ndarray) -> None:
    path = a_record(tmp_path, signal[:, :3000])
    refused(run("plan", path, "--out", tmp_path / "o"), tmp_path / "o", "8 s")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--drugs", "unicorn"), "unicorn"),
        (("--drugs", "dofetilide 50 mg PO"), "50"),
        (("--drugs", "dofetilide 0.5 mmol PO"), "mmol"),
        (("--drugs", "dofetilide lots"), "lots"),
        (("--given", "dofetilide 0.5 mg PO"), "@"),
        (("--given", "dofetilide 0.5 mg PO @ 3h"), "future"),
        (("--patient", "age=700"), "700"),
        (("--patient", "species=dog"), "species"),
        (("--patient", "conditions=sadness"), "sadness"),
        (("--patient", "nobody.yaml"), "nobody.yaml"),
        (("--scenario", "waltz"), "waltz"),
        (("--model", "no/such/folder"), "no/such/folder"),
    ],
)
def test_words_that_do_not_fit(tmp_path: Path, words: tuple[str, str], message: str) -> None:
    refused(run("plan", DEMO, *words, "--out", tmp_path / "o"), tmp_path / "o", message)


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("vae.safetensors", "world_model.safetensors"):
        (folder / name).write_bytes((ASSETS / name).read_bytes())
    whole = (ASSETS / "world_model.safetensors").read_bytes()
    (folder / "world_model.safetensors").write_bytes(whole[:-1000])
    refused(run("plan", DEMO, "--model", folder, "--out", tmp_path / "o"), tmp_path / "o", "world_model")


def test_an_unwritable_place(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("x")
    result = run("plan", DEMO, "--out", occupied / "below")
    assert result.exit_code == 2
    assert occupied.read_text() == "x"


def test_any_rate_any_order_any_spelling_gives_the_same_ranking(tmp_path: Path, signal: np.ndarray) -> None:
    from ecg_gym.waveform.filters import resample

    slow = resample(signal, 500.0, 250.0)
    order = list(reversed(range(12)))
    names = [LEADS[i].lower() for i in order]
    path = a_record(tmp_path, slow[order], fs=250, sig_name=names)
    words = ("--drugs", "diltiazem,placebo", "--samples", 16, "--json")
    other = json.loads(run("plan", path, *words, "--out", tmp_path / "a").stdout)
    plain = json.loads(run("plan", DEMO, *words, "--out", tmp_path / "b").stdout)
    assert other["intervals"]["hr_bpm"] == pytest.approx(plain["intervals"]["hr_bpm"], abs=1)
    scores = [{row["treatment"]: row["score"] for row in plan["candidates"]} for plan in (other, plain)]
    best = [min(row, key=row.get) for row in scores]
    assert scores[1][best[0]] == pytest.approx(scores[1][best[1]], abs=0.02)  # ways of giving it may tie


def test_write_record_round_trip(tmp_path: Path, signal: np.ndarray) -> None:
    from ecg_gym.datasets import read_record

    write_record(tmp_path / "again", ECG(signal, 500.0))
    np.testing.assert_allclose(read_record(tmp_path / "again").ecg.signal, signal, atol=6e-4)


def test_a_plan_by_another_measure_says_so_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    words = ("plan", DEMO, "--scenario", SCENARIO, "--drugs", "placebo", "--samples", 2)
    result = run(*words, "--out", tmp_path / "plan", "--json", "--measure", "cvar:0.5")
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["measure"] == "CVaR 0.5"
    refused(run(*words, "--out", tmp_path / "no", "--measure", "worst"), tmp_path / "no", "measure is 'worst'")


def test_the_version_is_that_of_the_package() -> None:
    import ecg_gym

    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"ecg-gym {ecg_gym.__version__}\n")


def test_help_loads_nothing_that_computes() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from training.cli.app import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "heavy = {'numpy', 'gymnasium', 'ecg_gym', 'training.cli.study', 'training.cli.train', 'training.cli.data'}\n"
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
