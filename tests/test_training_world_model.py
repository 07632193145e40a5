"""Training of the world model on made-up latents: who learns from what, what is hidden, and that a run can go on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_gym.datasets.trials import TRUTHS, Trials
from ecg_gym.world_model import WorldModel
from ecg_gym.world_model.checkpoint import ASSETS
from ecg_gym.world_model.conditioning import EPK_STRENGTH, feature_names
from training.loop import LoopConfig
from training.world_model import (
    PRESETS,
    LatentTrials,
    Objective,
    WorldModelTrainer,
    draw_batch,
    new_forecaster,
    preset_named,
    train,
    validate,
)

torch.set_num_threads(1)
N = 40
TINY = replace(PRESETS["tiny"], loop=LoopConfig(steps=8, warmup=2, save_every=4), batch=8)


@pytest.fixture(scope="module")
def data():
    rng, names = np.random.default_rng(0), feature_names()
    raw = rng.standard_normal((N, len(names))).astype(np.float32)
    raw[:, [i for i, name in enumerate(names) if name.startswith(("known.", "missing.")) or ".modulation." in name]] = (
        1.0
    )
    raw[:, names.index(EPK_STRENGTH)] = np.arange(N) % 2
    strips, labels = np.zeros((N, 8, 1024), np.float16), np.array([""] * N)
    truth = np.zeros((N, len(TRUTHS)), np.float32)
    trace = rng.standard_normal((N, 1024)).astype(np.float16) * (np.arange(N) % 2)[:, None].astype(np.float16)
    trials = Trials(
        strips,
        strips,
        raw,
        trace,
        truth,
        truth,
        labels,
        labels,
        np.arange(N),
        np.zeros((N, 2)),
        np.zeros(N, bool),
        names,
    )
    before = rng.standard_normal((N, 4, 128)).astype(np.float32)
    after = 0.8 * before + 0.6 * rng.standard_normal((N, 4, 128)).astype(np.float32)
    return LatentTrials(trials, before, after, before + 1, rng.random((N, 8)) < 0.3)


def one_loss(data, objective):
    """The gradients of one loss, by parameter name."""
    trainer = WorldModelTrainer(new_forecaster(TINY, data), objective)
    for parameter in trainer.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    batch = draw_batch(np.random.default_rng(0), data, trainer.forecaster.features, TINY)
    loss, parts = trainer.loss(batch, torch.Generator().manual_seed(1))
    loss.backward()
    return loss, parts, {name: p.grad.clone() for name, p in trainer.named_parameters() if p.grad is not None}


def test_the_diffusion_loss_does_not_reach_the_projection_unless_asked(data):
    gradients = [
        one_loss(data, Objective(c=c, joint_projection=joint))[2]["forecaster.projection.layers.0.weight"]
        for c, joint in ((0.25, False), (2.5, False), (2.5, True))
    ]
    torch.testing.assert_close(gradients[0], gradients[1])  # only its own loss
    assert not torch.allclose(gradients[1], gradients[2])


def test_the_loss_is_the_sum_of_its_parts(data):
    loss, parts, _ = one_loss(data, Objective(c=0.25))
    assert loss.item() == pytest.approx((parts["diffusion"] + parts["alignment"]).item(), rel=1e-5)
    assert parts["diffusion"].item() == pytest.approx((parts["data"] + 0.25 * parts["prior"]).item(), rel=1e-5)
    assert parts["prior"].item() > 0


def test_rows_without_a_trace_have_no_anchor_to_be_pulled_to(data):
    silent = replace(data, trials=replace(data.trials, features=data.trials.features.copy()))
    silent.trials.features[:, feature_names().index(EPK_STRENGTH)] = 0
    _, parts, _ = one_loss(silent, Objective())
    assert parts["prior"].item() == 0
    assert parts["alignment"].item() == 0


def test_hiding_keeps_facts_and_flags_together(data):
    names = feature_names()
    features = new_forecaster(TINY, data).features
    always = replace(TINY, hiding=replace(TINY.hiding, person=1.0, measurement=1.0, leads=1.0, anchor=1.0), batch=64)
    condition = draw_batch(np.random.default_rng(0), data, features, always)["condition"].numpy()
    column = dict(zip(names, condition.T))
    for fact, flag in (
        ("person.age_years", "known.person.age_years"),
        ("person.female", "known.person.sex"),
        ("measured.qt_ms", "known.qt_ms"),
    ):
        assert (column[fact] == 0).all()
        assert np.unique(column[flag]).size == 1
    shown = replace(always, hiding=replace(always.hiding, person=0.0, covariate=0.0, measurement=0.0))
    condition = draw_batch(np.random.default_rng(0), data, features, shown)["condition"].numpy()
    assert (dict(zip(names, condition.T))["person.age_years"] != 0).any()


def test_a_hidden_lead_comes_with_the_latent_that_lacks_it(data):
    features = new_forecaster(TINY, data).features
    quiet = replace(TINY.hiding, latent_noise=0.0, leads=1.0)
    batch = draw_batch(np.random.default_rng(0), data, features, replace(TINY, hiding=quiet))
    rows = np.random.default_rng(0).integers(N, size=TINY.batch)
    np.testing.assert_array_equal(batch["before"].numpy(), data.masked[rows])
    batch = draw_batch(np.random.default_rng(0), data, features, replace(TINY, hiding=replace(quiet, leads=0.0)))
    np.testing.assert_array_equal(batch["before"].numpy(), data.before[rows])


def test_a_run_that_was_stopped_goes_on_to_the_same_losses(data, tmp_path):
    whole = [logs["loss"] for _, logs, _ in train(TINY, data, tmp_path / "whole", show=False)]
    for step, _, _ in train(TINY, data, tmp_path / "cut", show=False):
        if step == 6:
            break
    again = {step: logs["loss"] for step, logs, _ in train(TINY, data, tmp_path / "cut", show=False)}
    assert sorted(again) == [5, 6, 7, 8]
    assert [again[step] for step in (5, 6, 7, 8)] == pytest.approx(whole[4:], rel=1e-6)


def test_a_run_can_begin_with_weights_that_are_there(data, tmp_path):
    """From the packaged ones: their sizes and features are kept, and step one is near them, not near random ones."""
    packaged = WorldModel.load().forecaster
    slow = replace(TINY, loop=replace(TINY.loop, steps=1, learning_rate=1e-6))
    *_, (_, _, averaged) = train(slow, data, tmp_path, show=False, start=ASSETS)
    assert averaged.features.names == packaged.features.names
    for name, value in packaged.state_dict().items():
        torch.testing.assert_close(averaged.state_dict()[name], value, atol=1e-3, rtol=0)


def test_validation_prints_the_trivial_baselines(data):
    errors = validate(new_forecaster(TINY, data), data)
    assert errors["copy"] == pytest.approx(np.mean((data.before - data.after) ** 2), rel=1e-5)
    assert errors["zero"] == pytest.approx(np.mean(data.after**2), rel=1e-5)
    assert np.isfinite(list(errors.values())).all()


def test_presets():
    assert preset_named("default").objective.weighting == "early"
    assert preset_named("paper", device="cpu").loop.device == "cpu"
    assert preset_named("paper").objective == Objective(c=0.25, weighting="paper", joint_projection=True)
    with pytest.raises(ValueError, match="preset is 'huge'; expected one of"):
        preset_named("huge")
