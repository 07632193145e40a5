"""Pages of studies: figures of weights that ship, and of no others."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from training.evaluation import pages
from training.evaluation.registry import STUDIES

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = next(iter(pages.manifest().values()))
METRICS = {
    "crps": {"value": 1.5, "ci95": [1.0, 2.0], "baselines": {"no change": 3.0, "wrong": None}},
    "bias": {"value": -0.25, "ci95": None, "baselines": {}},
}


def a_document(sha256: str = SHIPPED, study: str = "forecast") -> dict:
    size = {"n_patients": 4, "seeds": [0], "settings": {"samples": 2}}
    return {"study": study, "model_sha256": sha256, "metrics": METRICS, "rows": [{"a": 1}], **size}


def test_a_section_shows_the_chosen_rows_beside_the_chosen_baselines() -> None:
    page = pages.section("forecast", a_document(), {"crps": "CRPS [ms]"}, {"no change": "copy"}, "x.png")
    assert "| CRPS [ms] | 1.5 [1, 2] | 3 |" in page
    assert "bias" not in page
    assert SHIPPED[:12] in page
    assert "![forecast](x.png)" in page


def test_a_metric_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        pages.section("forecast", a_document(), {"nothing": "x"})


@pytest.mark.parametrize("document", [None, a_document("f" * 64)])
def test_without_a_document_of_the_weights_that_ship_there_are_no_figures(document) -> None:
    page = pages.section("forecast", document, {"crps": "CRPS"})
    assert "Not measured" in page
    assert "1.5" not in page


def test_a_study_without_weights_is_always_shown() -> None:
    assert "1.5" in pages.section("drug-effects", a_document(""), {"crps": "CRPS"})


def test_the_csv_has_every_metric_and_baseline() -> None:
    rows = list(csv.DictReader(io.StringIO(pages.metrics_csv(a_document()))))
    assert [(r["metric"], r["of"], r["value"]) for r in rows] == [
        ("crps", "value", "1.5"), ("crps", "no change", "3.0"), ("crps", "wrong", ""), ("bias", "value", "-0.25"),
    ]  # fmt: skip
    assert (rows[0]["low"], rows[0]["high"]) == ("1.0", "2.0")


def run(folder: Path, results: Path):
    import typer

    app = typer.Typer(rich_markup_mode="markdown")
    app.command()(pages.main)
    return CliRunner().invoke(app, [str(folder), "--results", str(results)])


def test_documents_are_taken_with_their_figures_and_without_their_rows(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "forecast.json").write_text(json.dumps(a_document()))
    (tmp_path / "in" / "forecast.png").write_bytes(b"picture")
    result = run(tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert pages.documents(tmp_path / "out")["forecast"]["rows"] == []
    assert (tmp_path / "out" / "forecast.png").read_bytes() == b"picture"


def test_a_document_of_other_weights_is_refused_and_nothing_is_taken(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(json.dumps(a_document(study="a")))
    (tmp_path / "in" / "b.json").write_text(json.dumps(a_document("f" * 64, "b")))
    result = run(tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 2
    assert "ffffffffffff" in result.stderr
    assert not (tmp_path / "out").exists()


def test_every_page_of_a_study_names_metrics_that_its_document_has() -> None:
    folder = ROOT / "docs" / "studies"
    read = pages.documents(folder / "results")
    named = {}
    for path in folder.glob("*.md"):
        head, _ = pages.front_matter(path)
        if "study" in head:
            named[head["study"]] = set(head["rows"])
    assert set(read) <= set(named)
    for name, document in read.items():
        assert named[name] <= set(document["metrics"]), name


def test_the_documents_that_are_stored_are_of_weights_that_ship_or_are_marked() -> None:
    folder = ROOT / "docs" / "studies"
    table = pages.index(folder)
    for name, document in pages.documents(folder / "results").items():
        (row,) = [line for line in table.splitlines() if f"({name}.md)" in line]
        assert ("not measured" in row) == (not pages.shipped(document))


def test_the_papers_tables_name_studies_and_metrics_that_there_are() -> None:
    folder = ROOT / "docs" / "studies"
    rows = yaml.safe_load(pages.PAPER_TABLES.read_text(encoding="utf-8"))
    stored = pages.documents(folder / "results")
    for row in rows:
        assert row.get("study") is None or row["study"] in STUDIES
        if row.get("study") in stored:
            assert set(row.get("metrics", {})) <= set(stored[row["study"]]["metrics"]), row["item"]
    table = pages.paper_table(folder)
    assert len(table.splitlines()) == 2 + len(rows)


def test_a_row_of_the_paper_shows_our_figure_with_its_baselines() -> None:
    row = {"item": "Table 1", "metrics": {"crps": "CRPS"}, "baselines": ["no change"]}
    assert pages._beside(a_document(), row) == "CRPS 1.5 [1, 2] (no change 3)"
    assert "not measured" in pages._beside(None, row)
