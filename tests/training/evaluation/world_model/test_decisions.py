"""Decisions in a game whose truth is known: who knows it has no regret."""

import numpy as np
from worlds import AnalyticRisk, AnalyticWorld

from training.evaluation.result import Size
from training.evaluation.world_model import decisions


def test_the_truth_itself_regrets_less_than_chance_and_figures_add_up(monkeypatch):
    monkeypatch.setattr(decisions, "_pharmacology", lambda decision, truth: decision.value)
    world = AnalyticWorld()
    document = decisions.study(world, world, Size(patients=6, samples=8), True, risk=AnalyticRisk())
    regret = document["metrics"]["regret"]
    assert regret["value"] <= regret["baselines"]["random"]
    assert len(document["rows"]) == 6
    assert np.isclose(regret["value"], np.mean([row["model"] for row in document["rows"]]))
    assert decisions.summary(document)[0]["who chooses"] == "model"
    decisions.figure(document)
