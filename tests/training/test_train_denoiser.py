"""Training of the world model on made-up latents: who learns from what, what is hidden, and that a run can go on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_gym.checkpoint import ASSETS
from ecg_gym.datasets.transitions import TRUTHS, Trials
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model import VAE, WorldModel
from ecg_gym.world_model.conditioning import ENDINGS, EXPOSURE, OBSERVED, PEOPLE, FeatureScale, render_names
from ecg_gym.world_model.interval_model import IntervalModel, PrognosisConfig
from training import train_interval_model
from training.data.pairs import Drawings, chosen_pairs, with_real
from training.data.real_pairs import real_drawings
from training.data.sources import strips_of
from training.loop import LoopConfig
from training.train_denoiser import (
    PRESETS,
    Objective,
    WorldModelTrainer,
    draw_batch,
    new_forecaster,
    preset_named,
    train,
    validate,
)

torch.set_num_threads(1)
S, N = 30, 40  # strips, pairs
TINY = replace(PRESETS["tiny"], loop=LoopConfig(steps=8, warmup=2, save_every=4), batch=8)
PAPER = replace(
    PRESETS["paper"], width=32, blocks=2, loop=TINY.loop, batch=8, objective=Objective(joint_projection=False)
)
FORETOLD = (IntervalModel(PrognosisConfig(2, 8, 1, 2)), FeatureScale(("a", "b"), np.zeros(2), np.ones(2)))


def made_up(prior_shape):
    rng = np.random.default_rng(0)
    before = rng.integers(0, S - 1, N)
    after = rng.integers(before + 1, S)
    place = np.where(np.arange(N) % 2, np.cumsum(np.arange(N) % 2) - 1, -1)
    observed = (50 + 10 * rng.standard_normal((S, len(OBSERVED)))).astype(np.float32)
    latent = rng.standard_normal((S, 4, 128)).astype(np.float16)
    return Drawings(
        latent=latent,
        masked=latent + 1,
        missing=rng.random((S, 8)) < 0.3,
        decoded_intervals=observed + 1,
        observed=observed,
        exposure=rng.standard_normal((S, len(EXPOSURE))).astype(np.float32),
        person=rng.standard_normal((S, len(PEOPLE))).astype(np.float32),
        hours=np.arange(S, dtype=float),
        prior=rng.standard_normal((N // 2, *prior_shape)).astype(np.float16),
        before=before,
        after=after,
        place=place,
    )


@pytest.fixture(scope="module")
def data():
    return made_up((4, 128))


@pytest.fixture(scope="module")
def papers_data():
    return made_up((1024,))


def fresh(preset, data):
    return new_forecaster(preset, data, None if preset.prognosis is None else FORETOLD)


def one_loss(data, preset):
    """The gradients of one loss, by parameter name."""
    trainer = WorldModelTrainer(fresh(preset, data), preset.objective)
    for parameter in trainer.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    batch = draw_batch(np.random.default_rng(0), data, trainer.forecaster.features, preset)
    loss, parts = trainer.loss(batch, torch.Generator().manual_seed(1))
    loss.backward()
    return loss, parts, {name: p.grad.clone() for name, p in trainer.named_parameters() if p.grad is not None}


def test_the_diffusion_loss_does_not_reach_the_projection_unless_asked(papers_data):
    gradients = [
        one_loss(papers_data, replace(PAPER, objective=Objective(c=c, joint_projection=joint)))[2][
            "forecaster.projection.layers.0.weight"
        ]
        for c, joint in ((0.25, False), (2.5, False), (2.5, True))
    ]
    torch.testing.assert_close(gradients[0], gradients[1])  # only its own loss
    assert not torch.allclose(gradients[1], gradients[2])


def test_the_loss_is_the_sum_of_its_parts(data, papers_data):
    loss, parts, _ = one_loss(papers_data, PAPER)
    assert loss.item() == pytest.approx((parts["diffusion"] + parts["alignment"]).item(), rel=1e-5)
    loss, parts, gradients = one_loss(data, TINY)
    assert loss.item() == pytest.approx(parts["diffusion"].item(), rel=1e-5)
    assert parts["diffusion"].item() == pytest.approx((parts["data"] + 0.25 * parts["prior"]).item(), rel=1e-5)
    assert parts["prior"].item() > 0
    assert not [name for name in gradients if "prognosis" in name]  # it has learned before, by a loss of its own


def test_pairs_without_a_prior_have_no_anchor_to_be_pulled_to(data):
    silent = replace(data, place=np.full(N, -1))
    _, parts, _ = one_loss(silent, TINY)
    assert parts["prior"].item() == 0
    assert parts["alignment"].item() == 0


def test_the_denoiser_is_told_what_the_later_strip_measures(data):
    features = fresh(TINY, data).features
    batch = draw_batch(np.random.default_rng(0), data, features, TINY)
    rows = np.random.default_rng(0).integers(N, size=TINY.batch)
    column = features.names.index("asked.qt_ms")
    request = data.decoded_intervals[data.after[rows], OBSERVED.index("qt_ms")]
    expected = np.arcsinh((request - features.offset[column]) / features.scale[column])
    np.testing.assert_allclose(batch["condition"][:, column], expected, rtol=1e-5)
    assert "asked.qt_ms" not in render_names(has_targets=False)


def test_hidden_people_are_unknown(data):
    features = fresh(TINY, data).features
    for share, hidden in ((1.0, True), (0.0, False)):
        value = replace(TINY, hiding=replace(TINY.hiding, person=share), batch=64)
        condition = draw_batch(np.random.default_rng(0), data, features, value)["condition"].numpy()
        assert (condition[:, features.names.index("person.age_years")] == 0).all() == hidden


def test_a_hidden_lead_comes_with_the_latent_that_lacks_it(data):
    features = fresh(TINY, data).features
    quiet = replace(TINY.hiding, latent_noise=0.0, leads=1.0)
    batch = draw_batch(np.random.default_rng(0), data, features, replace(TINY, hiding=quiet))
    rows = np.random.default_rng(0).integers(N, size=TINY.batch)
    np.testing.assert_array_equal(batch["before"].numpy(), data.masked[data.before[rows]].astype(np.float32))
    batch = draw_batch(np.random.default_rng(0), data, features, replace(TINY, hiding=replace(quiet, leads=0.0)))
    np.testing.assert_array_equal(batch["before"].numpy(), data.latent[data.before[rows]].astype(np.float32))


def test_a_run_that_was_stopped_goes_on_to_the_same_losses(data, tmp_path):
    whole = [logs["loss"] for _, logs, _ in train(TINY, data, tmp_path / "whole", show=False, foretold=FORETOLD)]
    for step, _, _ in train(TINY, data, tmp_path / "cut", show=False, foretold=FORETOLD):
        if step == 6:
            break
    again = {step: logs["loss"] for step, logs, _ in train(TINY, data, tmp_path / "cut", show=False, foretold=FORETOLD)}
    assert sorted(again) == [5, 6, 7, 8]
    assert [again[step] for step in (5, 6, 7, 8)] == pytest.approx(whole[4:], rel=1e-6)


def test_a_run_can_begin_with_weights_that_are_there(data, tmp_path):
    """From the packaged ones: their sizes and features are kept, and step one is near them, not near random ones."""
    packaged, channels = WorldModel.load().forecaster, WorldModel.load().vae.latent_shape[0]
    times = channels // data.latent.shape[1]
    data = replace(
        data, **{name: np.repeat(getattr(data, name), times, axis=1) for name in ("latent", "masked", "prior")}
    )
    slow = replace(TINY, loop=replace(TINY.loop, steps=1, learning_rate=1e-6))
    *_, (_, _, averaged) = train(slow, data, tmp_path, show=False, start=ASSETS)
    assert averaged.features.names == packaged.features.names
    for name, value in packaged.state_dict().items():
        torch.testing.assert_close(averaged.state_dict()[name], value, atol=1e-3, rtol=0)
    for name, value in packaged.prognosis.state_dict().items():
        torch.testing.assert_close(
            averaged.prognosis.state_dict()[name], value, atol=0, rtol=0
        )  # it has learned before


def test_real_strips_have_their_share_of_a_batch(data):
    features = fresh(TINY, data).features
    quiet = replace(TINY, hiding=replace(TINY.hiding, leads=0.0, latent_noise=0.0), batch=400, real=0.25)
    both = with_real(data, data)
    assert both.real == N
    assert len(both) == 2 * N
    marked = replace(both, latent=np.concatenate([data.latent, data.latent + 50]))
    batch = draw_batch(np.random.default_rng(0), marked, features, quiet)
    assert (batch["before"].mean(dim=(1, 2)) > 25).float().mean() == pytest.approx(0.25, abs=0.07)
    assert (draw_batch(np.random.default_rng(0), data, features, quiet)["before"].abs() < 10).all()


@pytest.mark.slow
def test_a_real_strip_is_redrawn_from_another_of_its_beats(tmp_path):
    """Virtual volunteers stand in for real people: same intervals, another phase, EPK nearer than the copy."""
    leads = VirtualPatient().initial(6, np.random.default_rng(0), healthy=True).ecg
    strips = strips_of(leads, np.array([f"r/{i}" for i in range(6)]), np.array(["train"] * 5 + ["test"]), "virtual")
    vae = VAE.load()
    made = real_drawings(strips, vae, tmp_path / "real.npz")
    assert len(made) == 10  # five training strips, begun again twice; the one for testing is left out
    qt = OBSERVED.index("qt_ms")
    assert np.nanmedian(np.abs(made.observed[made.before, qt] - made.observed[made.after, qt])) < 6
    there = np.flatnonzero(made.place >= 0)
    assert len(there) >= 8
    target = made.latent[made.after[there]].astype(float)
    anchor = ((made.prior_of(there) - target) ** 2).mean()
    assert anchor < 0.5 * ((made.latent[made.before[there]] - target) ** 2).mean()
    again = real_drawings(strips, vae, tmp_path / "real.npz")
    np.testing.assert_array_equal(again.latent, made.latent)


def test_components_widen_when_they_are_too_sure(tmp_path):
    trials = some_trials(people=60)
    preset = train_interval_model.IntervalModelPreset(
        16, 1, 2, dropout=0.0, batch=16, loop=LoopConfig(steps=2, warmup=1)
    )
    for _, _, learned, features in train_interval_model.train(preset, trials, tmp_path, show=False):  # noqa: B007
        pass
    learned.requires_grad_(False).eval()
    learned.scale.mul_(0.2)  # now surprises are five times what it expects
    before = train_interval_model.validate(learned, features, trials)["intervals"]
    train_interval_model.widen(learned, features, trials)
    assert train_interval_model.validate(learned, features, trials)["intervals"] < before
    assert (learned.widening > 1.5).all()


def test_validation_prints_the_trivial_baselines(data):
    errors = validate(fresh(TINY, data), data)
    before, after = (data.latent[rows].astype(np.float32) for rows in (data.before, data.after))
    assert errors["copy"] == pytest.approx(np.mean((before - after) ** 2), rel=1e-4)
    assert errors["zero"] == pytest.approx(np.mean(after**2), rel=1e-4)
    assert np.isfinite(list(errors.values())).all()


def some_trials(people=12, strips=4):
    """People whose QT grows by half of what pharmacology expects, and one in four of whom dies at the end."""
    rng = np.random.default_rng(1)
    rows = people * strips
    observed = np.tile(
        np.array([60, 30, 160, 95, 400, 400, 220, 220, 85, 1.2, 0.4, 1, 1], np.float32), (rows, 1)
    ) + rng.normal(0, 0.1, (rows, len(OBSERVED))).astype(np.float32)
    observed[:, -2:] = 1
    place = np.tile(np.arange(strips), people)
    alive = (place < strips - 1) | (np.arange(rows) // strips % 4 > 0)
    observed[~alive] = np.nan
    exposure = np.zeros((rows, len(EXPOSURE)), np.float32)
    for i, name in enumerate(EXPOSURE):
        exposure[:, i] = name.endswith(("rate", "conduction", "amplitude", "contractility", "resistance"))
    return Trials(
        strips=np.zeros((rows, 0), np.float16),
        observed=observed,
        exposure=exposure,
        ended=np.zeros((rows, len(ENDINGS)), np.float32),
        person=np.zeros((rows, len(PEOPLE)), np.float32),
        truth=np.zeros((rows, len(TRUTHS)), np.float32),
        hazard=np.zeros((rows, 3), np.float32),
        alive=alive,
        findings=np.full((rows, 17), 0.05, np.float32),
        pressure=np.full(rows, 93.0, np.float32),
        treatment=np.full(rows, ""),
        held_out=np.zeros(rows, bool),
        rhythm=np.full(rows, "sinus"),
        patient=np.repeat(np.arange(people), strips),
        hours=place.astype(float),
        columns=(*OBSERVED, *EXPOSURE, *ENDINGS, *PEOPLE),
    )


def test_pairs_follow_people_until_they_die():
    trials = some_trials()
    pairs = train_interval_model.pairs_of(trials, farthest=2)
    assert (trials.patient[pairs.before] == trials.patient[pairs.after]).all()
    assert set(pairs.after - pairs.before) == {1, 2}
    assert trials.alive[pairs.before].all()
    died = ~trials.alive[pairs.after]
    assert died.sum() == 3
    assert (pairs.after - pairs.before)[died].tolist() == [1, 1, 1]
    before, after = chosen_pairs(trials, np.random.default_rng(0))
    assert trials.alive[after].all()
    assert {(b % 4, a % 4) for b, a in zip(before, after)} >= {(0, 1), (0, 2), (0, 3)}


def test_a_prognosis_that_was_stopped_goes_on_to_the_same_losses(tmp_path):
    trials = some_trials()
    preset = train_interval_model.IntervalModelPreset(
        16, 1, 2, batch=16, objective=train_interval_model.Objective(own=0.5, own_from=0.2),
        loop=LoopConfig(steps=8, warmup=2, save_every=4),
    )  # fmt: skip
    whole = [
        logs["loss"] for _, logs, _, _ in train_interval_model.train(preset, trials, tmp_path / "whole", show=False)
    ]
    for step, _, _, _ in train_interval_model.train(preset, trials, tmp_path / "cut", show=False):
        if step == 6:
            break
    again = {
        step: logs["loss"]
        for step, logs, _, _ in train_interval_model.train(preset, trials, tmp_path / "cut", show=False)
    }
    assert [again[step] for step in (5, 6, 7, 8)] == pytest.approx(whole[4:], rel=1e-5)
    learned, features = train_interval_model.finished(preset, trials, tmp_path / "cut")
    assert np.isfinite(list(train_interval_model.validate(learned, features, trials).values())).all()


def test_presets():
    assert preset_named("default").objective.weighting == "early"
    assert preset_named("paper", device="cpu").loop.device == "cpu"
    assert preset_named("paper").objective == Objective(c=0.25, weighting="paper", joint_projection=True)
    with pytest.raises(ValueError, match="preset is 'huge'; expected one of"):
        preset_named("huge")
