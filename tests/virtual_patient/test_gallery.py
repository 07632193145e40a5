"""Every case of the gallery shows what its name says, by its truth, and can be drawn."""

import numpy as np
import pytest

from ecg_gym.core import ECG
from ecg_gym.virtual_patient.gallery import CASES, describe, example, save_gallery
from ecg_gym.virtual_patient.truth import FINDINGS
from ecg_gym.waveform import measure

SHOWS = {
    "sinus_bradycardia": "Bradycardia",
    "sinus_tachycardia": "Tachycardia",
    "lbbb": "Left bundle branch block",
    "rbbb": "Right bundle branch block",
    "av_block_1": "1st degree atrioventricular block",
    "av_block_3": "Atrioventricular block",
    "af": "Atrial fibrillation",
    "flutter": "Atrial flutter",
    "pvc": "Premature ventricular contraction",
    "vt": "Ventricular tachycardia",
    "paced": "Electronic pacemaker",
    "old_inferior_infarction": "Infarction",
    "poor_quality": "Poor data quality",
}


@pytest.mark.parametrize(("case", "finding"), SHOWS.items())
def test_a_case_has_the_finding_it_is_named_for(case: str, finding: str) -> None:
    _, truth = example(case)
    assert truth.findings[FINDINGS.index(finding)]
    assert finding in describe(case, truth)


def test_the_normal_case_is_normal() -> None:
    _, truth = example("normal")
    assert [f for f, present in zip(FINDINGS, truth.findings) if present] == ["Sinus rhythm"]


@pytest.mark.parametrize("case", ["normal", "av_block_1", "sinus_bradycardia", "acquired_long_qt"])
def test_a_reader_with_a_ruler_finds_the_truth(case: str) -> None:
    signal, truth = example(case)
    measured = measure(ECG(signal, 500.0)).row(0)
    for name, within in (("hr_bpm", 1.0), ("pr_ms", 12.0), ("qt_ms", 12.0), ("tpeak_tend_ms", 12.0)):
        assert measured[name] == pytest.approx(truth.intervals[name], abs=within), name


def test_pictures_are_written(tmp_path) -> None:
    (path,) = save_gallery(tmp_path, ["normal"])
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert set(SHOWS) <= set(CASES)
    assert np.isfinite(example("vf")[0]).all()
