"""The world model with untrained weights: everything about it that does not need learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, WATCH, Administration, Dose, Patient, Treatment, concatenate
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.physiology import mcsharry, solve_exact
from ecg_gym.world_model import checkpoint, model
from ecg_gym.world_model.anchor import ProjectionConfig
from ecg_gym.world_model.conditioning import (
    EPK_STRENGTH,
    FeatureScale,
    Step,
    complete,
    feature_names,
    measure_strips,
    raw_features,
)
from ecg_gym.world_model.denoiser import DenoiserConfig
from ecg_gym.world_model.forecaster import Forecaster
from ecg_gym.world_model.model import WorldModel
from ecg_gym.world_model.vae import KIND, VAE, VAEConfig

torch.set_num_threads(1)
DOFETILIDE = Treatment((Dose("dofetilide", 0.5, "mg", "PO"),))
SOMEONE = Patient(age_years=61, sex="F", weight_kg=70, potassium=4.0)
# of lead II; aVR is mostly negative, as it should be. Independent leads I, II, V1 to V6.
GAINS = {"I": 0.6, "II": 1.0, "V1": -0.4, "V2": 0.3, "V3": 0.8, "V4": 1.2, "V5": 1.1, "V6": 0.9}


def strip(rr_s=0.9, r_mv=1.0):
    """Ten seconds of a regular sinus rhythm, (12, 1024) [mV] on the model grid, one shape in every lead."""
    lead = solve_exact(
        mcsharry.textbook(np.array([rr_s]), np.array([r_mv])),
        np.array([[rr_s]]),
        samples=1024,
        rate_hz=MODEL_RATE_HZ,
        theta_start=np.array([-2 * np.pi * 0.4 / rr_s]),
    )[0]
    leads = {name: gain * lead for name, gain in GAINS.items()}
    one, two = leads["I"], leads["II"]
    leads |= {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    return np.stack([leads[name] for name in LEADS]).astype(np.float32)


def loosened(module, by=0.05):
    """Every weight moved a little, so that layers that begin at zero take part."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data += by * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def some_features(n=4):
    patients = tuple(replace(SOMEONE, age_years=50.0 + i) for i in range(n))
    nothing, later = ((),) * n, ((Administration(0.0, DOFETILIDE.doses[0]),),) * n
    step = Step(patients, nothing, later, np.zeros(n), np.arange(1.0, n + 1))
    ecg = np.stack([strip(0.7 + 0.1 * i) for i in range(n)])
    return step, raw_features(step, measure_strips(ecg))


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    vae = loosened(VAE(VAEConfig(width=16, fine_width=8, dilations=(1,))))
    names = feature_names()
    features = FeatureScale.fit(names, some_features()[1])
    size = DenoiserConfig(len(features.names), width=32, blocks=2, condition_width=16, kernel=3)
    forecaster = Forecaster(size, ProjectionConfig(width=8, blocks=1), features)
    return WorldModel(vae, loosened(forecaster, 0.15), steps=3)


@pytest.fixture(scope="module")
def state(world):
    rows = [world.observe(ECG(strip(rr), MODEL_RATE_HZ), SOMEONE) for rr in (0.7, 0.8, 0.95, 1.1)]
    return concatenate(rows)


def generators(n):
    return [np.random.default_rng([5, i]) for i in range(n)]


def test_observe_shows_the_strip_as_the_codec_sees_it(world):
    seen = world.observe(ECG(strip(), MODEL_RATE_HZ), SOMEONE, [Administration(-2.0, DOFETILIDE.doses[0])])
    assert seen.ecg.shape == (1, 12, 1024)
    assert seen.inner["latent"].shape == (1, 4, 128)
    with torch.inference_mode():
        decoded = world.vae.decode(torch.from_numpy(seen.inner["latent"])).numpy()
    np.testing.assert_array_equal(seen.ecg, decoded)
    assert seen.taken == ((Administration(-2.0, DOFETILIDE.doses[0]),),)
    np.testing.assert_allclose(seen.ecg[:, 2], seen.ecg[:, 1] - seen.ecg[:, 0], atol=1e-5)  # Einthoven


def test_a_missing_lead_is_not_read(world):
    clean, spoilt = strip(), strip()
    spoilt[LEADS.index("V2")] = 7.0
    seen = [world.observe(ECG(s, MODEL_RATE_HZ, missing=("V2",)), SOMEONE) for s in (clean, spoilt)]
    np.testing.assert_array_equal(seen[0].inner["latent"], seen[1].inner["latent"])
    assert seen[0].inner["missing"].tolist() == [[False, False, False, True, False, False, False, False]]
    whole = world.observe(ECG(clean, MODEL_RATE_HZ), SOMEONE)
    assert not np.array_equal(whole.inner["latent"], seen[0].inner["latent"])


def test_a_step_remembers_doses_and_time(world, state):
    later = world.step(state, [WATCH, DOFETILIDE, WATCH, DOFETILIDE], np.random.default_rng(0))
    assert later.ecg.shape == state.ecg.shape
    assert np.isfinite(later.ecg).all()
    np.testing.assert_allclose(later.ecg[:, 2], later.ecg[:, 1] - later.ecg[:, 0], atol=1e-4)
    assert [len(t) for t in later.taken] == [0, 1, 0, 1]
    assert later.taken[1][0] == Administration(0.0, DOFETILIDE.doses[0])
    np.testing.assert_array_equal(later.hours, [1, 1, 1, 1])
    np.testing.assert_array_equal(state.hours, [0, 0, 0, 0])


def test_a_row_has_one_future_alone_or_in_a_crowd(world, state):
    treatments = [WATCH, DOFETILIDE, WATCH, DOFETILIDE]
    together = world.step(state, treatments, generators(4))
    for i in range(4):
        alone = world.step(state[i], [treatments[i]], [generators(4)[i]])
        np.testing.assert_allclose(alone.ecg[0], together.ecg[i], atol=2e-4)


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
def test_deterministic_rows_are_equal_to_the_bit(world, state, sampler):
    steady = replace(world, deterministic="batch", sampler=sampler)
    crowd = state.repeat(3)
    together = steady.step(crowd, [DOFETILIDE] * 12, generators(12))
    alone = steady.step(crowd[7], [DOFETILIDE], [generators(12)[7]])
    np.testing.assert_array_equal(alone.ecg[0], together.ecg[7])


def test_the_treatment_matters_and_common_noise_is_common(world, state):
    rngs = [np.random.default_rng(1) for _ in range(3)]
    later = world.step(state[[0, 0, 0]], [WATCH, WATCH, DOFETILIDE], rngs)
    np.testing.assert_allclose(later.ecg[0], later.ecg[1], atol=2e-4)
    assert np.abs(later.ecg[0] - later.ecg[2]).max() > 1e-3


def test_rows_that_are_not_alive_stay(world, state):
    mixed = replace(state, alive=np.array([True, False, True, True]))
    later = world.step(mixed, [DOFETILIDE] * 4, generators(4))
    np.testing.assert_array_equal(later.ecg[1], state.ecg[1])
    assert later.taken[1] == ()
    assert later.hours[1] == 0
    nobody = replace(state, alive=np.zeros(4, dtype=bool))
    np.testing.assert_array_equal(world.step(nobody, [WATCH] * 4, generators(4)).ecg, state.ecg)


def test_chunks_change_nothing(world, state, monkeypatch):
    whole = world.step(state, [DOFETILIDE] * 4, generators(4))
    monkeypatch.setattr(model, "CHUNK", 3)
    np.testing.assert_allclose(world.step(state, [DOFETILIDE] * 4, generators(4)).ecg, whole.ecg, atol=2e-4)


def test_the_anchor_can_be_turned_down(world, state):
    state = replace(state, ecg=np.stack([strip(rr) for rr in (0.7, 0.8, 0.95, 1.1)]))  # the untrained codec shows noise
    later = replace(state, hours=state.hours + 1)
    full, off = (replace(world, epk_scale=scale).known(state, later) for scale in (1.0, 0.0))
    assert full.strength.tolist() == [1, 1, 1, 1]
    assert off.strength.tolist() == [0, 0, 0, 0]
    assert world.forecaster.anchor(off).abs().sum() == 0
    assert world.forecaster.anchor(full).abs().sum() > 0


def test_the_prior_abstains_without_beats(world):
    flat = world.observe(ECG(strip(), MODEL_RATE_HZ), SOMEONE)
    flat = replace(flat, ecg=np.zeros_like(flat.ecg))
    assert world.known(flat, replace(flat, hours=flat.hours + 1)).strength.tolist() == [0]


def test_knobs_are_checked(world):
    for knob, value in (
        ("sampler", "euler"), ("backend", "tpu"), ("deterministic", "yes"), ("epk_scale", 2.0), ("dt_hours", 0.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected"):
            replace(world, **{knob: value})


def test_one_treatment_per_row(world, state):
    with pytest.raises(ValueError, match="1 treatments for 4 rows; expected one per row"):
        world.step(state, [WATCH], generators(4))


def write(world, folder):
    codec = checkpoint.save(
        folder / "vae.safetensors", KIND, world.vae.state_dict(), world.vae.config, data={}, metrics={}
    )
    return model.save(folder / "world_model.safetensors", world.forecaster, codec, data={}, metrics={})


def test_weights_come_back_as_they_were(world, state, tmp_path):
    digest = write(world, tmp_path)
    for path in (tmp_path, tmp_path / "world_model.safetensors"):
        loaded = WorldModel.load(path, steps=3, sampler=None)
        assert loaded.sha256 == digest
        again, first = (w.step(state, [DOFETILIDE] * 4, generators(4)).ecg for w in (loaded, world))
        assert np.abs(again - first).max() < 0.01 * np.abs(first).max()  # stored as float16


def test_a_foreign_codec_is_refused(world, tmp_path):
    write(world, tmp_path)
    other = VAE(VAEConfig(width=16, fine_width=8, dilations=(1,)))
    checkpoint.save(tmp_path / "vae.safetensors", KIND, other.state_dict(), other.config, data={}, metrics={})
    with pytest.raises(ValueError, match=r"was trained with the codec .* expected .* keep both files together"):
        WorldModel.load(tmp_path)


def test_absent_weights_name_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"no weights at .* expected .* `ecg-gym train world-model`"):
        WorldModel.load(tmp_path)


def test_the_condition_tells_before_from_after():
    _, raw = some_features()
    told = dict(zip(feature_names(), raw.T))
    assert raw.shape == (4, len(feature_names()))
    assert (told["before.plasma.dofetilide"] == 0).all()
    assert (told["after.plasma.dofetilide"] > 0).all()
    assert (told["after.modulation.jtpeak_ms"] > told["before.modulation.jtpeak_ms"]).all()
    assert told["clock.step_hours"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(told["measured.hr_bpm"], [60 / (0.7 + 0.1 * i) for i in range(4)], rtol=0.02)
    assert (told[EPK_STRENGTH] == 1).all()


def test_what_is_unknown_is_flagged_and_stands_at_rest():
    step, known = some_features()
    unknown = raw_features(
        replace(step, patients=(Patient(),) * 4), measure_strips(np.zeros((4, 12, 1024), np.float32))
    )
    told = dict(zip(feature_names(), unknown.T))
    for name in ("person.age_years", "person.female", "measured.qt_ms"):
        assert np.isnan(told[name]).all()
    for name in ("known.person.age_years", "known.person.sex", "known.qt_ms"):
        assert (told[name] == 0).all()
    scaled = FeatureScale.fit(feature_names(), known)(unknown, feature_names())
    assert np.isfinite(scaled).all()
    assert (scaled[:, feature_names().index("person.age_years")] == 0).all()


def test_features_are_matched_by_name():
    names, (_, raw) = feature_names(), some_features()
    scale = FeatureScale.fit(names, raw)
    order = np.random.default_rng(0).permutation(len(names))
    np.testing.assert_array_equal(scale(raw, names), scale(raw[:, order], [names[i] for i in order]))


def test_a_drug_that_came_since_training_may_be_listed_but_not_taken():
    names, (_, raw) = feature_names(), some_features()
    scale = FeatureScale.fit(names, raw)
    grown, quiet = [*names, "after.plasma.novarone"], np.zeros((4, 1))
    np.testing.assert_array_equal(scale(np.hstack([raw, quiet]), grown), scale(raw, names))
    with pytest.raises(ValueError, match="novarone is on board; expected a drug these weights were trained with"):
        scale(np.hstack([raw, quiet + 1]), grown)
    assert scale.drugs == FORMULARY.names


def test_a_drug_that_went_since_training_stands_at_rest():
    names, (_, raw) = feature_names(), some_features()
    gone = names.index("after.plasma.dofetilide")
    kept = [i for i in range(len(names)) if i != gone]
    scaled = FeatureScale.fit(names, raw)(raw[:, kept], [names[i] for i in kept])
    assert (scaled[:, gone] == 0).all()


def test_scaling_makes_rare_and_common_features_equally_loud():
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(5000) < 0.02, 3000.0, 0.0)
    common = 60 + 8 * rng.standard_normal(5000)
    names, raw = feature_names(), np.tile(some_features()[1][:1], (5000, 1))
    drug, rate = names.index("after.plasma.dofetilide"), names.index("measured.hr_bpm")
    raw[:, drug], raw[:, rate] = rare, common
    scaled = FeatureScale.fit(names, raw)(raw, names)
    assert np.abs(scaled[rare > 0, drug]).mean() == pytest.approx(0.88, abs=0.01)  # asinh(1)
    assert scaled[:, rate].std() == pytest.approx(0.8, abs=0.1)


def test_expected_intervals_follow_from_the_measured_ones():
    names, (_, raw) = feature_names(), some_features()
    for word, before, after in (
        ("sinus_rate", 1.0, 1.25), ("jtpeak_ms", 5.0, 30.0), ("tpeak_tend_ms", 0.0, 15.0), ("pr_ms", 0.0, 12.0),
        ("conduction", 1.0, 0.8),
    ):  # fmt: skip
        raw[:, names.index(f"before.modulation.{word}")] = before
        raw[:, names.index(f"after.modulation.{word}")] = after
    filled, all_names = complete(raw, names)
    told = dict(zip(all_names, filled.T))
    np.testing.assert_allclose(told["expected.hr_bpm"], 1.25 * told["measured.hr_bpm"], rtol=1e-6)
    np.testing.assert_allclose(told["expected.pr_ms"], told["measured.pr_ms"] + 12, rtol=1e-6)
    np.testing.assert_allclose(told["expected.qrs_ms"], told["measured.qrs_ms"] / 0.8, rtol=1e-6)
    longer = 25 + 15 + 0.25 * told["measured.qrs_ms"]
    np.testing.assert_allclose(told["expected.qtcf_ms"], told["measured.qtcf_ms"] + longer, rtol=1e-6)
    np.testing.assert_allclose(told["expected.qt_ms"], (told["measured.qt_ms"] + longer) / 1.25 ** (1 / 3), rtol=1e-6)


@pytest.mark.slow
def test_it_is_a_world(world):
    from ecg_gym.checks import check_world

    check_world(replace(world, deterministic="batch"))
