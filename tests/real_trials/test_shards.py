"""Shards of real ECGs: strips and doses as training reads them, nothing lost without a word, nobody on two sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from releases import Known, small_protocol

from ecg_gym.core import Administration, Dose, Treatment, limb_from_independent
from ecg_gym.datasets import read_record, splits
from ecg_gym.datasets.transitions import TRUTHS, read_trials, split_of
from ecg_gym.real_trials import is_real, read_manifest, read_real, read_trial, trajectories_of, write_shards
from ecg_gym.real_trials import shards as shards_module
from ecg_gym.real_trials.manifest import row_weights
from ecg_gym.waveform import to_model_grid
from ecg_gym.world_model.conditioning import EXPOSURE, exposures

SIDES = {"ecgrdvq-1001": "train", "ecgrdvq-1002": "validation", "ecgrdvq-1003": "test"}


@pytest.fixture(scope="module")
def shards(look_alike: Callable[[str], Known], tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = look_alike("ecgrdvq")
    trajectories, _ = trajectories_of(read_trial("ecgrdvq", known.folder, small_protocol("ecgrdvq")))
    folder = tmp_path_factory.mktemp("shards")
    write_shards(trajectories, SIDES, folder, {"profile": "none"})
    return folder


def test_strips_intervals_and_doses_are_the_trials(shards: Path, look_alike: Callable[[str], Known]) -> None:
    known = look_alike("ecgrdvq")
    trials, real = read_real(shards)
    by_key = {(row["RANDID"], row["PERIOD"], row["TPT"], row["EGREFID"]): row for row in known.rows}
    assert len(trials) == len(known.rows) - 1  # the one with a dead V4
    for trial in real.values():
        rows = np.flatnonzero(trials.patient == trial.number)
        np.testing.assert_array_equal(trials.hours[rows], trial.hours)
        own = [row for key, row in by_key.items() if f"ecgrdvq-{key[0]}" == trial.subject and key[1] == trial.period]
        assert {row["ARM"] for row in own} == {trial.arm}
        for at in rows:
            candidates = [row for row in own if row["TPT"] == trials.hours[at]]
            qt = trials.truth[at, TRUTHS.index("qt_ms")]
            assert any((row["QT"] is None and np.isnan(qt)) or row["QT"] == qt for row in candidates)
        expected = exposures((trial.administrations,) * len(rows), (trial.patient,) * len(rows), trials.hours[rows])
        np.testing.assert_allclose(trials.exposure[rows], expected, rtol=1e-6)
    dofetilide = next(t for t in real.values() if t.arm == "dofetilide")
    rows = np.flatnonzero(trials.patient == dofetilide.number)
    assert trials.treatment[rows].tolist() == ["", "dofetilide 0.5 mg PO", "watch and wait"]
    later = trials.exposure[rows][:, EXPOSURE.index("modulation.jtpeak_ms")]
    assert later[0] < later[1:].min(), "nothing was on board before the dose"


def test_a_dose_at_the_hour_of_a_strip_belongs_to_the_next_step() -> None:
    dose = Dose("dofetilide", 0.5, "mg", "PO")
    given = (Administration(2.0, dose),)
    assert shards_module._between(given, 0.0, 2.0) == Treatment()
    assert shards_module._between(given, 2.0, 4.0) == Treatment((dose,))


def test_a_strip_is_the_record_on_the_model_grid(shards: Path, look_alike: Callable[[str], Known]) -> None:
    known = look_alike("ecgrdvq")
    trials, real = read_real(shards, "test")
    first = min(real)
    row = next(r for r in known.rows if r["RANDID"] == 1003 and r["PERIOD"] == real[first].period)
    ecg = read_record(known.folder / "raw" / "1003" / row["EGREFID"]).ecg
    whole = limb_from_independent(trials.strips[0].astype(np.float32))
    np.testing.assert_allclose(whole, to_model_grid(ecg).signal, atol=0.01)


def test_nobody_stands_on_two_sides_and_files_say_so(shards: Path) -> None:
    stored = splits.read_trials(shards)
    manifest = read_manifest(shards)
    for number, side in stored.shards.items():
        assert split_of(number) == side
        first, last = stored.patients[number]
        assert {t.subject for t in manifest.trials if first <= t.number <= last} == {
            name for name, where in SIDES.items() if where == side
        }
    assert splits.read(shards / "subjects.json") == {
        name: side.replace("validation", "val") for name, side in SIDES.items()
    }
    assert is_real(shards)
    assert not is_real(shards.parent)
    for side in SIDES.values():
        assert {t.side for t in read_real(shards, side)[1].values()} == {side}
        part = read_trials(shards, side)
        number = next(n for n, where in stored.shards.items() if where == side)
        stored.check(number, side, patient=part.patient, treatment=part.treatment, held_out=part.held_out)


def test_every_ecg_that_is_left_out_is_counted(shards: Path, look_alike: Callable[[str], Known]) -> None:
    manifest = read_manifest(shards)
    assert manifest.left_out == {"a lead is flat": 1}
    assert manifest.strips + 1 == len(look_alike("ecgrdvq").rows)
    assert manifest.about == {"profile": "none"}


def test_weights_follow_the_replicates(shards: Path) -> None:
    trials, real = read_real(shards)
    assert np.unique(row_weights(trials, real).round(6)).tolist() == [round(1 / 3, 6)]


def test_artefacts_and_lonely_strips_are_left_out(look_alike: Callable[[str], Known], tmp_path: Path) -> None:
    known = look_alike("ecgcipa")
    trajectories, _ = trajectories_of(read_trial("ecgcipa", known.folder, small_protocol("ecgcipa")))
    own = [t for t in trajectories if any(s.record.name in known.defects["beyond_10_mv"] for s in t.strips)]
    lonely = [own[0].__class__(**{**vars(own[0]), "strips": own[0].strips[:1], "replicate": 9})]
    written = write_shards([*own, *lonely], dict.fromkeys([t.subject for t in own], "test"), tmp_path / "out")
    assert written.left_out["an artefact beyond 10 mV"] == 1
    assert written.left_out["alone: no other ECG of its period could be used"] == 1


def test_what_cannot_be_written_is_refused(look_alike: Callable[[str], Known], shards: Path, tmp_path: Path) -> None:
    known = look_alike("ecgrdvq")
    trajectories, _ = trajectories_of(read_trial("ecgrdvq", known.folder, small_protocol("ecgrdvq")))
    with pytest.raises(ValueError, match="holds shards; expected an empty folder"):
        write_shards(trajectories, SIDES, shards)
    with pytest.raises(ValueError, match=r"\['ecgrdvq-1001'\] have no side; expected one of"):
        write_shards(trajectories, {**SIDES, "ecgrdvq-1001": "training"}, tmp_path / "a")
    moved = [
        t.__class__(
            **{**vars(t), "strips": tuple(s.__class__(**{**vars(s), "record": tmp_path / "x"}) for s in t.strips)}
        )
        for t in trajectories[:1]
    ]
    with pytest.raises(ValueError, match=r"no ECG of 1 trajectories could be used \(\{'the record is not there': 1"):
        write_shards(moved, SIDES, tmp_path / "b")
    with pytest.raises(ValueError, match=r"has no trials\.json; expected shards of real ECGs"):
        read_manifest(tmp_path)
    (tmp_path / "trials.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(ValueError, match="has format 0; expected 1"):
        read_manifest(tmp_path)
