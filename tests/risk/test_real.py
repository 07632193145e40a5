"""The limits on real strips: cardiologists' long QT, fast and slow hearts stand out from normal ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ecg_gym.core import Patient
from ecg_gym.datasets import read_record
from ecg_gym.risk import RiskModel
from ecg_gym.waveform import to_model_grid


@pytest.fixture(scope="module")
def ptbxl(real_data) -> Path:
    return real_data("ptbxl_100hz")


def risk_of(folder: Path, statement: str, most: int = 12) -> np.ndarray:
    """Risk of up to ``most`` strips that carry a statement, each judged against itself."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if statement in row["scp_codes"].split(";")][:most]
    numbers = [int(row["ecg_id"]) for row in rows]
    paths = [folder / "records100" / f"{n // 1000 * 1000:05d}" / f"{n:05d}_lr" for n in numbers]
    strips = np.stack([to_model_grid(read_record(path).ecg).signal.reshape(12, -1) for path in paths])
    patients = [Patient(sex="F" if row["sex"] == "1" else "M") for row in rows]
    return RiskModel.limits_only()(strips, strips, patients).total


def test_disease_stands_out_from_normal(ptbxl: Path) -> None:
    normal = risk_of(ptbxl, "NORM")
    assert np.median(normal) < 0.01
    assert normal.mean() < 0.05
    assert np.median(risk_of(ptbxl, "LNGQT")) > 0.15
    assert risk_of(ptbxl, "SVTAC").mean() > 0.3
    assert risk_of(ptbxl, "STACH").mean() > 2 * normal.mean()
    assert risk_of(ptbxl, "CLBBB").mean() > 2 * normal.mean()
