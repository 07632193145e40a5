"""Studies end in documents whose numbers can be checked against what they are made of."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecg_gym.checkpoint import ASSETS
from ecg_gym.virtual_patient import VirtualPatient
from training.cli.app import app
from training.evaluation.planning import plans
from training.evaluation.world_model import zero_dose


def test_an_oracle_planning_for_itself_has_little_regret_and_orders_well() -> None:
    """With the virtual patient in the model's place only sampling noise is left between model and oracle."""
    document = plans.study(VirtualPatient(), ["bradycardia"], patients=3, k=4)
    (row,) = document["rows"]
    assert row["n_patients"] == 3
    assert row["regret"] < 0.05
    assert row["order"] > 0.5
    assert row["oracle"] <= row["random"] + 0.02
    low, high = row["model_ci"]
    assert low <= row["model"] <= high


def test_zero_dose_reads_a_folder_and_judges_a_world(tmp_path: Path) -> None:
    for suffix in (".hea", ".dat"):
        shutil.copy(ASSETS / f"default_patient{suffix}", tmp_path)
    (tmp_path / "broken.hea").write_text("not a header\n")
    document = zero_dose.study(VirtualPatient(), tmp_path, limit=2, k=2)
    assert document["n_patients"] == 1
    assert document["n_refused"] == 1
    assert {(row["strips"], row["interval"]) for row in document["rows"]} >= {
        ("real", "hr_bpm"),
        ("virtual", "qtcf_ms"),
    }
    with pytest.raises(ValueError, match="expected a folder of records"):
        zero_dose.study(VirtualPatient(), tmp_path / "nothing")


def test_weights_are_listed_with_their_licences() -> None:
    rows = json.loads(CliRunner().invoke(app, ["weights", "--json"]).stdout)
    assert {row["file"] for row in rows} == {
        "vae.safetensors",
        "world_model.safetensors",
        "student.safetensors",
        "risk.safetensors",
    }
    assert sum(row["megabytes"] for row in rows) <= 20
    assert "CC BY 4.0" in json.dumps(rows)
