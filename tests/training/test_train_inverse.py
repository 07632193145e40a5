"""Inverse dynamics: pairs out of trials, scores beside baselines, and a run that ends with weights that load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym import checkpoint
from ecg_gym.core import WATCH, parse_dose
from ecg_gym.datasets.transitions import TrialDesign, Trials, make_shard
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import OBSERVED
from planners.proposers.effects import EFFECTS
from planners.proposers.inverse import KIND, InverseDynamics, feature_names
from training import train_inverse
from training.train_inverse import PACKAGED, PRESETS, Pairs, class_share, pairs_of, report, top_share

DESIGN = TrialDesign(patients=6, steps=(2,), dt_hours=(1.0,), watch=(0.0,), pair=0.3)


@pytest.fixture(scope="module")
def trials() -> Trials:
    return make_shard(0, DESIGN)


def test_pairs_are_neighbouring_strips_with_nothing_or_one_drug_between(trials) -> None:
    pairs = pairs_of(trials, None)
    single = [
        row
        for row in range(len(trials) - 1)
        if trials.patient[row] == trials.patient[row + 1]
        and trials.alive[row + 1]
        and " + " not in str(trials.treatment[row + 1])
    ]
    assert len(pairs) == len(single) > 0
    assert pairs.raw.shape == (len(single), len(feature_names(0)))
    for label, row in zip(pairs.label, single):
        words = str(trials.treatment[row + 1])
        name = str(WATCH) if label == 0 else FORMULARY.names[label - 1]
        assert words == str(WATCH) if label == 0 else parse_dose(words).drug == name
    place = feature_names(0).index("change.hr_bpm")
    hr = trials.observed[:, OBSERVED.index("hr_bpm")].astype(float)
    np.testing.assert_allclose(pairs.raw[:, place], [hr[row + 1] - hr[row] for row in single])
    assert pairs.change.shape == (len(single), len(EFFECTS))


def test_shares_count_places_and_classes() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    label = np.array([0, 2])
    assert [top_share(scores, label, k) for k in (1, 2, 3)] == [0.5, 0.5, 1.0]
    assert top_share(scores[:0], label[:0], 1) is None
    kinds = train_inverse.drug_classes()
    named = dict(zip(FORMULARY.names, kinds))
    assert named["quinidine"] == named["flecainide"] == named["lidocaine"] == "class I"
    assert named["dofetilide"] == named["amiodarone"] == "class III"
    assert (named["verapamil"], named["metoprolol"]) == ("class IV", "class II")
    assert named["magnesium"] == named["calcium_gluconate"] == "electrolyte"
    same = next(i for i in range(1, len(kinds)) if kinds[i] in kinds[:i])
    wide = np.zeros((1, len(kinds)))
    wide[0, kinds.index(kinds[same])] = 1.0
    assert class_share(wide, np.array([same])) == 1.0


def clear_pairs(n: int, seed: int) -> Pairs:
    """Two drugs that do the opposite to the rate, plainly."""
    rng = np.random.default_rng(seed)
    label = rng.integers(1, 3, n)
    raw = rng.normal(size=(n, len(feature_names(0))))
    change = np.zeros((n, len(EFFECTS)))
    change[:, 0] = np.where(label == 1, -20, 20) + rng.normal(size=n)
    raw[:, feature_names(0).index("change.hr_bpm")] = change[:, 0]
    return Pairs(raw, label.astype(np.int64), np.zeros(n), change, np.arange(n) % 4 == 0)


def test_a_run_learns_what_is_plain_resumes_and_leaves_weights_that_load(tmp_path: Path) -> None:
    preset = replace(PRESETS["tiny"], loop=replace(PRESETS["tiny"].loop, steps=150, learning_rate=2e-2))
    pairs = {"train": clear_pairs(200, 0), "test": clear_pairs(80, 1)}
    steps = train_inverse.train(preset, pairs, tmp_path, "", 0, show=False)
    for step, _ in steps:
        if step >= 25:
            break
    steps.close()
    again = [step for step, _ in train_inverse.train(preset, pairs, tmp_path, "", 0, show=False)]
    assert again[0] > 1, "it went on"
    stored = checkpoint.load(tmp_path / PACKAGED, KIND)
    figures = stored.metadata["metrics"]["all doses"]
    assert figures["pairs"] == 80
    assert figures["model"]["top 1"] > 0.9
    assert figures["nearest mean effect"]["top 1"] > 0.9
    assert figures["majority"]["top 1"] < 0.7
    assert InverseDynamics.load(tmp_path / PACKAGED).sha256 == stored.sha256


def test_the_report_leaves_out_watching(trials) -> None:
    pairs = clear_pairs(20, 2)
    nothing = Pairs(pairs.raw, np.zeros(20, np.int64), pairs.ratio, pairs.change, pairs.held_out)
    torch.manual_seed(0)
    network = train_inverse.network_for(PRESETS["tiny"], pairs, "", 0).eval()
    assert report(network, pairs, nothing)["all doses"]["pairs"] == 0
    assert report(network, pairs, nothing)["all doses"]["model"]["top 1"] is None


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="'tiny' finishes in seconds"):
        train_inverse.preset_named("huge")
