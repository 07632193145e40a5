"""Formulas of a chat model: a known model written as formulas is recovered, and those that diverge are said to."""

from __future__ import annotations

import json

import ep_files
import numpy as np
import pytest
import torch

from ecg_gym.llm import ChatClient, Scripted
from ecg_gym.tissue import DataSet, Spec
from ecg_gym.tissue.model import Model, Stimuli, simulate
from training.leads.free_formulas import FreeReaction, ask_reaction, fit_free
from training.leads.outcome import null_error
from training.leads.patient import data_set

MS = {
    "du": "v*u**2*(1-u)/p0 - u/p1",
    "dv": "where(u < p4, (1-v)/p2, -v/p3)",
    "v_rest": 1.0,
    "p": [0.5, 6.0, 130.0, 150.0, 0.13],
}
QUICK = ((0.5, 2, 0.05),)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return data_set(ep_files.two_beats(samples=80))


def test_the_simulation_is_that_of_the_catalogue(data: DataSet) -> None:
    from training.leads.free_formulas import START_DIFFUSION, _simulate

    stimuli = Stimuli.of([[data.pacing[0]]], len(data.graph))
    model = Model.nominal(Spec("ms", "iso"), data.graph, 1)
    log_d = torch.log(torch.tensor(START_DIFFUSION))
    model.parameters["diffusion.log_d"] = log_d.reshape(model.parameters["diffusion.log_d"].shape)
    row = {**MS, "dv": "(1 - sigmoid(50*(u-p4)))*(1-v)/p2 - sigmoid(50*(u-p4))*v/p3"}
    made = FreeReaction.parse(row)
    with torch.no_grad():
        ours = _simulate(made, torch.tensor(made.p), log_d, data, stimuli, 40)
        theirs = simulate(model, stimuli, 0.5, 160, 4).u
    assert float((ours - theirs).abs().max()) < 0.02


@pytest.mark.slow
def test_formulas_of_a_known_model_are_fitted(data: DataSet) -> None:
    fit = fit_free(FreeReaction.parse(MS), data, QUICK)
    assert fit.stable
    assert fit.validation_error < 0.7 * null_error(data)
    assert fit.p != MS["p"]
    np.testing.assert_allclose(fit.p, MS["p"], rtol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("du", "dv"), [("5*u + 1", "0*v"), ("u/v", "1/(u-u)"), ("exp(u)", "exp(v)")])
def test_formulas_that_diverge_are_said_to(data: DataSet, du: str, dv: str) -> None:
    fit = fit_free(FreeReaction.parse({"du": du, "dv": dv, "v_rest": 0.0, "p": [1.0]}), data, QUICK)
    assert not fit.stable
    assert (fit.train_error, fit.validation_error) == (1.0, 1.0)


def test_a_model_is_told_what_was_refused_and_may_try_again() -> None:
    bad = {**MS, "du": "__import__('os').getcwd()"}
    script = Scripted([json.dumps(bad), json.dumps({**MS, "p": []}), json.dumps(MS)])
    made, failures = ask_reaction(ChatClient(script))
    assert made == FreeReaction.parse(MS)
    assert failures == ["outside the grammar"] * 2
    assert "was refused" in script.requests[1]["messages"][-1]["content"]
    none, failures = ask_reaction(ChatClient(Scripted([json.dumps(bad)] * 9)))
    assert none is None
    assert failures == ["outside the grammar"] * 3
    assert ask_reaction(ChatClient(Scripted(["no"] * 3)))[1] == ["not json"] * 3
