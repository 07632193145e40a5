"""The page about a release: what is as expected, what differs, and every documented defect counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from releases import Known, small_protocol

from ecg_gym.real_trials import check_release, read_trial, releases
from ecg_gym.real_trials.data_check import Line, Report


def lines(report: Report) -> dict[str, Line]:
    return {line.what: line for section in report.sections.values() for line in section}


@pytest.mark.parametrize("name", ["ecgrdvq", "ecgdmmld", "ecgcipa"])
def test_every_injected_defect_is_on_the_page(name: str, look_alike: Callable[[str], Known]) -> None:
    known = look_alike(name)
    looked = []
    report = check_release(read_trial(name, known.folder, small_protocol(name)), signals=True, progress=looked.append)
    page, by_name = report.page(), lines(report)
    for kind, row in releases()[name]["defects"].items():
        assert by_name[row["what"]].actual == len(known.defects[kind]) > 0, kind
        assert row["what"] in page
    assert by_name["ECGs"].actual == len(known.rows)
    assert by_name["records there"].actual == len(known.rows)
    odd = {(row["RANDID"], row["PERIOD"], row["TPT"]) for row in known.rows}
    assert by_name["groups of one person, period and hour"].actual == len(odd)
    assert by_name["median beats whose annotation contradicts the table"].actual == 0
    assert by_name["records of the table that RECORDS does not name"].actual == 0
    assert by_name["ECGs whose arm is not the one of the sequence"].actual == 0
    assert (by_name["files that differ from their hash"].actual, by_name["files that are not there"].actual) == (0, 0)
    assert not [what for what in by_name if what.startswith("headers with another")], (
        "rate, length and unit are the release's"
    )
    assert looked
    json.dumps(report.to_json_dict(), allow_nan=False)


def test_what_is_wrong_with_a_copy_is_said(look_alike: Callable[[str], Known], tmp_path: Path) -> None:
    known = look_alike("ecgrdvq")
    folder = tmp_path / "copy"
    shutil.copytree(known.folder, folder)
    first, second, third = (row for row in known.rows[:3])
    (folder / "raw" / str(first["RANDID"]) / f"{first['EGREFID']}.dat").write_bytes(b"short")
    (folder / "raw" / str(second["RANDID"]) / f"{second['EGREFID']}.hea").unlink()
    table = folder / "SCR-002.Clinical.Data.csv"
    table.write_text(table.read_text().replace(f"{third['EGREFID']},{third['RANDID']}", f"another,{third['RANDID']}"))
    by_name = lines(check_release(read_trial("ecgrdvq", folder, small_protocol("ecgrdvq")), signals=True))
    assert by_name["files that differ from their hash"].actual == 2  # the record and the table
    assert by_name["files that are not there"].actual == 1
    assert by_name["records there"].actual == len(known.rows) - 2
    assert by_name["records of the table that RECORDS does not name"].actual == 1
    assert by_name["records in RECORDS that the table does not name"].actual == 1
    assert by_name["records that cannot be read"].actual == 3
    assert not by_name["records that cannot be read"].as_expected


def test_a_drug_that_the_protocol_does_not_explain_is_counted(look_alike: Callable[[str], Known]) -> None:
    known = look_alike("ecgdmmld")
    protocol = small_protocol("ecgdmmld")
    report = check_release(read_trial("ecgdmmld", known.folder, protocol), hashes=False)
    assert lines(report)["ECGs with dofetilide in the blood that the protocol does not explain"].actual == 0
    assert "Hashes" not in report.sections
    from dataclasses import replace

    late = replace(
        protocol, arms=tuple(replace(arm, doses=arm.doses[:1] if len(arm.doses) > 1 else ()) for arm in protocol.arms)
    )
    by_name = lines(check_release(read_trial("ecgdmmld", known.folder, late), hashes=False))
    assert by_name["ECGs with dofetilide in the blood that the protocol does not explain"].actual > 0


def test_the_real_table_is_as_documented(real_data: Callable[[str], Path]) -> None:
    report = check_release(read_trial("ecgrdvq", real_data("ecgrdvq")), hashes=False)
    for title in ("Table", "Documented defects in the table", "Doses and concentrations"):
        assert all(line.as_expected for line in report.sections[title]), title
    assert not lines(report)["records there"].as_expected, "waveforms are not here"
