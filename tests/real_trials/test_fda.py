"""Readers of the releases give back what the trial knew, whatever is wrong with the files; and the real tables."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from releases import MEASURED, Known, small_protocol

from ecg_gym.clinical_trial import load_protocol, shipped_protocols
from ecg_gym.core import LEADS
from ecg_gym.datasets import read_record
from ecg_gym.real_trials import read_trial, releases
from ecg_gym.real_trials.fda import protocol_of
from ecg_gym.real_trials.table import TrialTable, arm_named, patient_of

NAMES = ("ecgrdvq", "ecgdmmld", "ecgcipa")


def table_of(name: str, known: Known) -> TrialTable:
    return read_trial(name, known.folder, small_protocol(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_reader_returns_what_the_trial_knew(name: str, look_alike: Callable[[str], Known]) -> None:
    known = look_alike(name)
    table = table_of(name, known)
    by_id = {row["EGREFID"]: row for row in table.rows}
    assert len(table) == len(known.rows) == len(by_id)
    for row in known.rows:
        read = by_id[row["EGREFID"]]
        assert {key: read[key] for key in MEASURED} == {key: row[key] for key in MEASURED}
        assert (read["TPT"], read["BASELINE"], read["PERIOD"]) == (row["TPT"], row["BASELINE"], row["PERIOD"])
        assert read["ARM"] == row["ARM"]
        assert read["SUBJECT"] == f"{name}-{row['RANDID']}"
        assert patient_of(read).sex == row["SEX"]
        assert (read["AGE"], read["WGHT"], read["HGHT"]) == (row["AGE"], row["WGHT"], row["HGHT"])
        for column in (key for key in row if key.startswith("conc_")):
            assert read.get(column) == row[column], column


@pytest.mark.parametrize("name", NAMES)
def test_signals_are_what_was_recorded_in_mv(name: str, look_alike: Callable[[str], Known]) -> None:
    known = look_alike(name)
    table = table_of(name, known)
    for row in table.rows[::9]:
        record = read_record(table.path(row))
        assert (record.ecg.rate_hz, record.ecg.signal.shape) == (1000.0, (12, 10_000))
        np.testing.assert_allclose(record.ecg.signal, known.signals[row["EGREFID"]], atol=0.003)
    assert record.ecg.lead("aVF").shape == (10_000,)
    assert LEADS[3:6] == ("aVR", "aVL", "aVF")


@pytest.mark.parametrize("name", NAMES)
def test_every_defect_of_the_table_is_found_where_it_was_put(name: str, look_alike: Callable[[str], Known]) -> None:
    known = look_alike(name)
    records = {kind: [] for kind in releases()[name]["defects"]}
    for defect in table_of(name, known).defects:
        records[defect.kind].append(defect.record)
    for kind, row in releases()[name]["defects"].items():
        if row.get("table"):
            assert known.defects[kind], f"nothing was injected for {kind}"
            assert sorted(records[kind]) == sorted(known.defects[kind]), kind


def test_replicates_number_the_ecgs_of_an_hour(look_alike: Callable[[str], Known]) -> None:
    rows = table_of("ecgcipa", look_alike("ecgcipa")).rows
    groups: dict[tuple, list[int]] = {}
    for row in rows:
        groups.setdefault((row["SUBJECT"], row["PERIOD"], row["TPT"]), []).append(row["REPLICATE"])
    assert Counter(map(tuple, map(sorted, groups.values()))) == {(1, 2, 3): len(groups) - 1, (1,): 1}


def test_cipa_hours_count_from_the_first_dose(look_alike: Callable[[str], Known]) -> None:
    table = table_of("ecgcipa", look_alike("ecgcipa"))
    later = [row for row in table.rows if row["TPT"] >= 24]
    assert {(row["TPT"], row["HOURS_SINCE_DAYS_DOSE"]) for row in later} == {(26.0, 2.0), (30.0, 6.0)}
    doses = {row["ARM"]: [a.hours for a in table.administrations(row) or ()] for row in table.rows}
    assert doses["verapamil"] == [0.0, 24.0]


def test_doses_come_from_the_protocol_and_not_from_the_name(look_alike: Callable[[str], Known]) -> None:
    table = table_of("ecgdmmld", look_alike("ecgdmmld"))
    row = next(row for row in table.rows if row["EXTRT"] == "Mexiletine + Dofetilide" and row["TPT"] == 2)
    given = table.administrations(row)
    assert given is not None
    assert [(a.hours, a.dose.drug) for a in given] == [(0.0, "mexiletine"), (4.0, "dofetilide")]


def test_an_arm_without_a_protocol_is_read_and_has_no_doses(look_alike: Callable[[str], Known], tmp_path: Path) -> None:
    shutil.copytree(look_alike("ecgcipa").folder, tmp_path / "cipa", ignore=shutil.ignore_patterns("raw", "medians"))
    path = tmp_path / "cipa" / "adeg.csv"
    path.write_text(path.read_text().replace("Verapamil", "Chloroquine"))
    table = read_trial("ecgcipa", tmp_path / "cipa", small_protocol("ecgcipa"))
    lost = [row for row in table.rows if row["EXTRT"] == "Chloroquine"]
    assert lost
    assert {table.administrations(row) for row in lost} == {None}
    assert {table.administrations(row) for row in table.rows if row["EXTRT"] == "Placebo"} == {()}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Dofetilide+Mexiletine", "mexiletine_dofetilide"),
        ("mexiletine + dofetilide", "mexiletine_dofetilide"),
        ("DOFETILIDE", "dofetilide"),
        ("Dofetilide HCl", "dofetilide"),
        ("Sotalol", None),
        ("", None),
    ],
)
def test_arms_are_found_whatever_their_spelling(label: str, name: str | None) -> None:
    arm = arm_named(small_protocol("ecgdmmld"), label)
    assert (arm.name if arm else None) == name


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "SCR-002.Clinical.Data.csv").unlink(), "SCR-002.Clinical.Data.csv is not there"),
        (
            lambda folder: (folder / "SCR-002.Clinical.Data.csv").write_text("EGREFID,RANDID\n1,2\n"),
            "lacks the columns .*'SEX'.*; expected those of the release",
        ),
    ],
)
def test_a_broken_release_is_refused_in_three_parts(tmp_path: Path, break_it: Callable, words: str) -> None:
    (tmp_path / "SCR-002.Clinical.Data.csv").write_text("")
    break_it(tmp_path)
    with pytest.raises(ValueError, match=words):
        read_trial("ecgrdvq", tmp_path)


def test_unknown_names_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trial is 'scr-2'; expected one of ecgrdvq, ecgdmmld, ecgcipa"):
        read_trial("scr-2", tmp_path)
    with pytest.raises(ValueError, match="is no folder; expected the release ecgrdvq"):
        read_trial("ecgrdvq", tmp_path / "nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_a_release_with_a_protocol_in_the_package_finds_all_its_arms(name: str) -> None:
    if not set(releases()[name]["protocols"]) & set(shipped_protocols()):
        with pytest.raises(ValueError, match="the package holds no protocol for ecgcipa; expected one of scr004"):
            protocol_of(name)
        return
    protocol = load_protocol(protocol_of(name))
    arms = [arm_named(protocol, label) for label in releases()[name]["arms"]]
    assert None not in arms
    assert len({arm.name for arm in arms if arm}) == len(arms)


def test_the_real_table_of_ecgrdvq(real_data: Callable[[str], Path]) -> None:
    table = read_trial("ecgrdvq", real_data("ecgrdvq"))
    release = releases()["ecgrdvq"]
    assert (len(table), len(table.subjects)) == (release["ecgs"], release["subjects"])
    assert Counter(row["EXTRT"] for row in table.rows) == release["arms"]
    seen = Counter(defect.kind for defect in table.defects)
    assert seen == {kind: row["count"] for kind, row in release["defects"].items() if row.get("table")}
    repaired = sorted(defect.action for defect in table.defects if defect.kind == "pr_wrap")
    assert repaired == ["2^32 added: 324 ms", "2^32 added: 345 ms"]
    assert all(90 <= row["PR"] <= 400 for row in table.rows if row["PR"] is not None)


def test_two_real_subjects_of_ecgdmmld(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = real_data("ecgdmmld") / "SCR-003.Clinical.Data.first2subjects.csv"
    shutil.copy(source, tmp_path / "SCR-003.Clinical.Data.csv")
    table = read_trial("ecgdmmld", tmp_path)
    assert (len(table), table.subjects) == (420, ("ecgdmmld-2001", "ecgdmmld-2002"))
    assert all(table.arm(row) is not None for row in table.rows)
    with open(source, newline="", encoding="utf-8") as file:
        levels = [cells["DOF"] for cells in csv.DictReader(file)]
    assert [row["conc_dofetilide_pg_mL"] for row in table.rows] == [None if x == "NA" else float(x) for x in levels]
