"""``ecg-gym weights`` fits a screen; everything else is in ``--json`` and ``--card``."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from foreign import save_torch
from typer.testing import CliRunner

from ecg_gym import checkpoint
from ecg_gym.foreign.ecgfounder import KIND, FounderConfig, FounderNet
from training.cli.app import app


def run(*words: str):
    return CliRunner().invoke(app, ["weights", *words], env={"COLUMNS": "80"})


def test_the_table_fits_a_screen_and_names_every_file_with_its_hash() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    for name, sha256 in checkpoint.manifest().items():
        assert any(name in line and sha256[:12] in line for line in lines)
    assert "CC BY 4.0" in result.stdout


def test_json_has_what_the_files_say_of_themselves() -> None:
    rows = json.loads(run("--json").stdout)
    assert {row["file"]: row["sha256"] for row in rows} == checkpoint.manifest()
    assert all("data" in row and "metrics" in row for row in rows)


def test_a_file_that_is_no_weights_is_refused(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nothing")
    result = run("show", str(path))
    assert result.exit_code == 2
    assert "refused" in result.stderr


def test_an_import_is_checked_written_and_shown(tmp_path) -> None:
    bad = save_torch(tmp_path / "x.pth", {"state_dict": {"a": np.ones(2, np.float32)}})
    result = run("import", str(bad), "--as", "ecgfounder", "--out", str(tmp_path / "x.safetensors"))
    assert result.exit_code == 2
    assert "lacks" in result.stderr
    assert run("import", str(bad), "--as", "other").exit_code == 2
    network = FounderNet(FounderConfig(widths=(8, 12), blocks=(1, 1), group_width=4))
    path = tmp_path / "small.safetensors"
    checkpoint.save(path, KIND, network.state_dict(), asdict(network.config), data={}, metrics={})
    assert "ECGFounder (imported)" in run("show", str(path), "--card").stdout
