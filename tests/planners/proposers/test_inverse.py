"""The inverse model as a proposer: doses against usual ones, its order, and what follows a likely action."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from planning import start

from ecg_gym import checkpoint
from ecg_gym.core import parse_dose
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import OBSERVED, PEOPLE
from planners.proposers.effects import EFFECTS
from planners.proposers.inverse import (
    FOLLOWED,
    KIND,
    InverseConfig,
    InverseDynamics,
    InverseNet,
    dose_ratio,
    feature_names,
    raw_features,
    usual_amount,
)

RNG = np.random.default_rng(0)


def network(favourite: str = "dofetilide", ratio: float = 0.0) -> InverseNet:
    """One that always names the same drug, at the same multiple of its usual dose."""
    torch.manual_seed(0)
    made = InverseNet(InverseConfig(feature_names(0), FORMULARY.names, width=8, layers=1)).eval()
    with torch.no_grad():
        made.drug.weight.zero_()
        made.dose.weight.zero_()
        made.drug.bias.copy_(torch.linspace(0, -1, 1 + len(FORMULARY.names)))
        made.drug.bias[1 + FORMULARY.names.index(favourite)] = 9.0
        made.dose.bias.fill_(ratio)
    return made


def test_features_are_named_one_by_one_and_hold_the_change() -> None:
    before = np.arange(len(OBSERVED), dtype=float)[None]
    after = 100 + np.arange(len(EFFECTS), dtype=float)[None]
    raw = raw_features(before, after, np.zeros((1, len(PEOPLE))), np.array([2.0]), np.ones((1, 6)))
    row = dict(zip(feature_names(6), raw[0], strict=True))
    assert row["change.qtcf_ms"] == row["after.qtcf_ms"] - row["before.qtcf_ms"]
    assert row["hours"] == pytest.approx(math.log(3))
    assert not any("serum" in name or "modulation" in name for name in row), "what is on board would be the answer"


def test_a_dose_is_compared_with_the_usual_ones_of_its_route() -> None:
    amounts = [d.amount for d in FORMULARY.usual_doses("metoprolol") if d.route == "PO"]
    usual = math.exp(np.mean(np.log(amounts)))
    assert usual_amount("metoprolol", "mg", "PO") == pytest.approx(usual)
    assert dose_ratio(parse_dose(f"metoprolol {2 * usual} mg PO")) == pytest.approx(math.log(2))
    assert dose_ratio(parse_dose("metoprolol 50 mcg SC")) == 0


@pytest.mark.parametrize("ratio", [-5.0, 5.0])
def test_the_likeliest_drug_comes_first_at_the_dose_that_fits(ratio: float) -> None:
    items = InverseDynamics(network(ratio=ratio)).propose(start(), RNG)
    doses = list(FORMULARY.usual_doses("dofetilide"))
    expected = max(doses, key=dose_ratio) if ratio > 0 else min(doses, key=dose_ratio)
    assert items[0].doses == (expected,)


def test_all_of_the_menu_is_proposed_once_and_a_neighbour_of_another_drug_follows() -> None:
    items = InverseDynamics(network()).propose(start(), RNG)
    assert sorted(map(str, items)) == sorted(str(t) for t in FORMULARY.menu() if t)
    drugs = [item.doses[0].drug for item in items[: 2 * FOLLOWED]]
    assert drugs[0] == "dofetilide"
    assert drugs[1] != "dofetilide"


def test_the_goal_is_the_mean_of_the_outcomes_of_least_risk() -> None:
    proposer = InverseDynamics(network())
    after = {name: np.arange(7.0) for name in EFFECTS}
    np.testing.assert_allclose(proposer.goal(np.array([9, 9, 0, 0, 0, 0, 0.0]), after), 4.0)


def test_weights_come_back_and_another_codec_is_refused(tmp_path) -> None:
    made = network("atropine")
    path = tmp_path / "inverse.safetensors"
    checkpoint.save(path, KIND, made.state_dict(), made.config, data={}, metrics={}, half=False)
    assert InverseDynamics.load(path).propose(start(), RNG)[0].doses[0].drug == "atropine"
    latent = InverseNet(InverseConfig(feature_names(8), FORMULARY.names, width=8, layers=1, codec_sha256="0" * 64))
    checkpoint.save(path, KIND, latent.state_dict(), latent.config, data={}, metrics={}, half=False)
    with pytest.raises(ValueError, match="trained with the codec 000000"):
        InverseDynamics.load(path)
    with pytest.raises(ValueError, match="expected both or neither"):
        InverseDynamics(latent)


def test_the_loss_counts_the_dose_of_the_given_drug_only() -> None:
    made = network(ratio=1.0)
    features = torch.zeros(2, len(feature_names(0)))
    watching, given = torch.tensor([0, 0]), torch.tensor([1, 0])
    _, none = made.loss(features, watching, torch.tensor([3.0, 3.0]))
    _, one = made.loss(features, given, torch.tensor([2.0, 3.0]))
    assert float(none["dose"]) == 0.0
    assert float(one["dose"]) == pytest.approx(0.5)
