"""Sides of virtual trials as a file: what is written is read, more may join, and nobody crosses over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecg_gym.core import Dose, Treatment
from ecg_gym.datasets import splits

SIDES = {0: "train", 1: "train", 8: "validation", 9: "test"}
PAIRS = [("verapamil", "dofetilide")]
TOGETHER = str(Treatment((Dose("verapamil", 120, "mg", "PO"), Dose("dofetilide", 0.5, "mg", "PO"))))
ALONE = str(Treatment((Dose("verapamil", 120, "mg", "PO"),)))


def written(folder: Path) -> splits.TrialSplits:
    return splits.write_trials(folder, SIDES, 4, levels=(0.75,), pairs=PAIRS)


def rows(*treatment: str, first: int = 0, held_out: bool = False) -> dict[str, np.ndarray]:
    n = len(treatment)
    return {
        "patient": first + np.arange(n),
        "treatment": np.array(treatment),
        "held_out": np.full(n, held_out),
    }


def test_the_file_names_shards_people_and_what_is_held_out(tmp_path: Path) -> None:
    made = written(tmp_path)
    assert json.loads((tmp_path / "splits.json").read_text()) == {
        "train": {"shards": ["trials_00000.npz", "trials_00001.npz"], "patients": [[0, 3], [4, 7]]},
        "validation": {"shards": ["trials_00008.npz"], "patients": [[32, 35]]},
        "test": {"shards": ["trials_00009.npz"], "patients": [[36, 39]]},
        "held_out": {"levels": [0.75], "pairs": [["dofetilide", "verapamil"]]},
    }
    assert splits.read_trials(tmp_path) == made
    assert [p.name for p in tmp_path.iterdir()] == ["splits.json"]


def test_more_shards_join_and_none_changes_sides(tmp_path: Path) -> None:
    written(tmp_path)
    both = splits.write_trials(tmp_path, {1: "train", 2: "train"}, 4, levels=(0.75,), pairs=PAIRS)
    assert both.shards == {**SIDES, 2: "train"}
    with pytest.raises(
        ValueError, match=r"trials_00009.npz as \('test', .*; expected \('train', .*; make its trials in"
    ):
        splits.write_trials(tmp_path, {9: "train"}, 4, levels=(0.75,), pairs=PAIRS)
    with pytest.raises(ValueError, match=r"holds out levels \(0.75,\) and 1 pairs; expected the levels \(0.8,\)"):
        splits.write_trials(tmp_path, {3: "train"}, 4, levels=(0.8,), pairs=PAIRS)
    with pytest.raises(ValueError, match=r"gives person 8 to trials_00004.npz and to trials_00002.npz"):
        splits.write_trials(tmp_path, {4: "train"}, 2, levels=(0.75,), pairs=PAIRS)
    with pytest.raises(ValueError, match=r"sides are \['val'\]; expected some of"):
        splits.write_trials(tmp_path, {5: "val"}, 4)
    assert splits.read_trials(tmp_path) == both


def test_a_shard_is_compared_with_the_file(tmp_path: Path) -> None:
    stored = written(tmp_path)
    stored.check(0, "train", **rows("", "watch and wait", ALONE))
    stored.check(9, "test", **rows(TOGETHER, first=36, held_out=True))
    with pytest.raises(ValueError, match=r"trials_00001.npz is read as 'test', and splits.json says 'train'; expected"):
        stored.check(1, "test", **rows(ALONE, first=4))
    with pytest.raises(ValueError, match=r"trials_00002.npz is read as 'train', and splits.json says None; expected"):
        stored.check(2, "train", **rows(ALONE, first=8))
    with pytest.raises(ValueError, match=r"holds people 3 to 4, and splits.json says 0 to 3; expected nobody else"):
        stored.check(0, "train", **rows(ALONE, ALONE, first=3))
    with pytest.raises(ValueError, match=r"gives 'dofetilide 0.5 .*'; expected dofetilide with verapamil in test"):
        stored.check(8, "validation", **rows(ALONE, TOGETHER, first=32))
    with pytest.raises(ValueError, match=r"for train and marks 1 rows as held out; expected none"):
        stored.check(0, "train", **rows(ALONE, held_out=True))


def test_a_file_that_is_missing_or_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no splits.json; expected the sides .*; write it with"):
        splits.read_trials(tmp_path)
    written(tmp_path)
    path = tmp_path / "splits.json"
    document = json.loads(path.read_text())
    twice = {**document, "test": document["train"]}
    path.write_text(json.dumps(twice))
    with pytest.raises(ValueError, match=r"trials_00000.npz in 'train' and 'test'; expected one side"):
        splits.read_trials(tmp_path)
    path.write_text(json.dumps({"train": []}))
    with pytest.raises(ValueError, match=r"has the keys \['train'\]; expected"):
        splits.read_trials(tmp_path)
