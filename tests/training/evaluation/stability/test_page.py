"""The page of stability shows what the documents of its worlds say, and keeps the text around."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from training.evaluation.stability import page


def document(world: str, drift: float | None) -> dict[str, Any]:
    baselines = {"copy": 0.0, "virtual patient": 0.5, "something else": 7.0}
    return {
        "model_sha256": "a" * 64 if world == "model" else "", "n_patients": 8, "seeds": [0, 1],
        "settings": {"world_name": world, "samples": 4, "steps": 8, "dt_hours": 0.5, "refused": 1, "dead_rows": 2},
        "metrics": {
            "drift_qtcf": {"value": drift, "ci95": None if drift is None else [drift - 1, drift + 1],
                           "baselines": baselines},
            "violation_rare": {"value": 3.0, "ci95": None, "baselines": {}},
        },
    }  # fmt: skip


def test_the_page_holds_one_column_per_world(tmp_path: Path) -> None:
    for name, drift in (("learned", 2.5), ("truth", None)):
        (tmp_path / name).mkdir()
        text = json.dumps(document("model" if name == "learned" else "oracle", drift))
        (tmp_path / name / "stability.json").write_text(text)
    (tmp_path / "learned" / "stability.png").write_bytes(b"png")
    target = tmp_path / "page.md"
    target.write_text("before\n<!-- worlds -->\nstale\n<!-- end -->\nafter\n")
    page.main(tmp_path, target)
    text = target.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "stale" not in text
    assert "`drift_qtcf`" in text
    assert "2.5" in text
    assert "[1.5, 3.5]" in text
    assert "something else" not in text  # baselines that stand on the page are chosen
    assert "violation_rare" not in text
    assert f"SHA-256 `{'a' * 12}...`" in text
    assert "8 patients, 4 samples, seeds 0, 1, 8 steps of 0.5 h; 1 first strips refused" in text
    assert "![learned](page/learned.png)" in text
    assert (tmp_path / "page" / "learned.png").read_bytes() == b"png"


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "page.md"
    target.write_text("<!-- worlds -->\n<!-- end -->\n")
    with pytest.raises(typer.Exit):
        page.main(tmp_path, target)
    assert target.read_text() == "<!-- worlds -->\n<!-- end -->\n"
