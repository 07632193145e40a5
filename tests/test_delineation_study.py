"""The study of the delineator reads marks, builds its reference from them and scores every method beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_waveform_measure import P_HALF_MS, QRS_MS, Q, S, analytic

from ecg_gym.core import LEADS
from ecg_gym.datasets import Wave, read_marks, write_record
from training.studies.delineation import reference_intervals, study

wfdb = pytest.importorskip("wfdb")


def annotated(folder: Path, pr_ms: float = 160.0, qt_ms: float = 400.0) -> Path:
    """An analytic record whose marks are the intervals it was made with."""
    write_record(folder / "r1", analytic(pr_ms=pr_ms, qt_ms=qt_ms))
    onset = Q[0] - Q[1]
    marks = []
    for r in range(450, 9300, 800):
        p = r + onset - pr_ms
        marks += [("(", p), ("p", p + P_HALF_MS), (")", p + 2 * P_HALF_MS)]
        marks += [("(", r + onset), ("N", r), (")", r + S[0] + S[1])]
        marks += [("(", r + onset + qt_ms - 180), ("t", r + onset + qt_ms - 80), (")", r + onset + qt_ms)]
    symbols, at = zip(*marks)
    for lead in LEADS:
        wfdb.wrann("r1", "lead", np.round(np.array(at) / 2).astype(int), list(symbols), write_dir=str(folder))
        (folder / "r1.lead").rename(folder / f"r1.{lead.lower()}")  # wfdb writes no digits in an extension, LUDB does
    return folder


def test_marks_are_read_back_as_waves(tmp_path: Path) -> None:
    marks = read_marks(annotated(tmp_path) / "r1")
    assert set(marks) == set(LEADS)
    first = marks["V2"][1]
    assert (first.kind, first.peak_s) == ("N", 0.45)
    assert first.end_s - first.onset_s == pytest.approx(QRS_MS / 1000, abs=0.002)


def test_the_reference_is_what_was_marked(tmp_path: Path) -> None:
    found = reference_intervals(read_marks(annotated(tmp_path) / "r1"))
    assert found == pytest.approx({"pr_ms": 160, "qrs_ms": QRS_MS, "qt_ms": 400}, abs=2)


def test_two_stray_leads_do_not_move_it() -> None:
    honest, stray = [Wave("N", 0.95, 1.0, 1.05)], [Wave("N", 0.85, 1.0, 1.15)]
    marks = {lead: stray if lead in ("I", "V6") else honest for lead in LEADS}
    assert reference_intervals(marks)["qrs_ms"] == pytest.approx(100, abs=1e-6)


def test_the_study_scores_a_perfect_record_well(tmp_path: Path) -> None:
    rows = study(annotated(tmp_path), methods=("global",), rates_hz=(500.0,))["rows"]
    scored = {row["interval"]: row for row in rows if row["records"] == "all" and row["reference"] == "global"}
    assert {row["n"] for row in scored.values()} == {1}
    for interval in ("pr_ms", "qrs_ms", "qt_ms"):
        assert abs(scored[interval]["bias_ms"]) < 9, interval
        assert scored[interval]["failures"] == 0


def test_a_folder_without_marks_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path / "r1", analytic())
    with pytest.raises(ValueError, match=r"holds no record with marks \(annotators found: none\); expected .*; point --records"):
        study(tmp_path)
