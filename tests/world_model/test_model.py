"""The world model with untrained weights: everything about it that does not need learning."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_gym import checkpoint
from ecg_gym.core import (
    ECG,
    LEADS,
    MODEL_RATE_HZ,
    WATCH,
    Administration,
    Dose,
    Patient,
    Treatment,
    concatenate,
)
from ecg_gym.physiology import mcsharry, solve_exact
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform import to_model_grid
from ecg_gym.world_model import drawing, memory, model
from ecg_gym.world_model.anchor import ProjectionConfig
from ecg_gym.world_model.conditioning import (
    MEASURED,
    OBSERVED,
    FeatureScale,
    Look,
    complete,
    endings,
    exposures,
    feature_names,
    observe_strips,
    people,
    raw_features,
    render_features,
    render_names,
    unread,
)
from ecg_gym.world_model.denoiser import DenoiserConfig
from ecg_gym.world_model.forecaster import Forecaster
from ecg_gym.world_model.interval_model import PrognosisConfig
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


def some_features(n=4, patients=None):
    patients = patients or tuple(replace(SOMEONE, age_years=50.0 + i) for i in range(n))
    nothing, later = ((),) * n, ((Administration(0.0, DOFETILIDE.doses[0]),),) * n
    ecg = np.stack([strip(0.7 + 0.1 * i) for i in range(n)])
    start, end = np.zeros(n), np.arange(1.0, n + 1)
    look = Look(observe_strips(ecg), exposures(nothing, patients, start), start, unread(n))
    exposure, ending = exposures(later, patients, end), endings(later, patients, start, end)
    return raw_features(people(patients), look, look, memory.nothing(n), exposure, end, ending)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return loosened(VAE(VAEConfig(width=16, fine_width=8, dilations=(1,))))


@pytest.fixture(scope="module")
def world(vae):
    torch.manual_seed(0)
    raw, names = complete(some_features(), feature_names())
    rendered = render_names()
    samples = FeatureScale.fit(rendered, np.random.default_rng(0).normal(50, 50, (9, len(rendered))))
    size = DenoiserConfig(len(rendered), width=32, blocks=2, condition_width=16, kernel=3)
    forecaster = Forecaster(size, samples, PrognosisConfig(len(names), 16, 1, 2), FeatureScale.fit(names, raw))
    loosened(forecaster.denoiser, 0.15)
    loosened(forecaster.prognosis, 0.02)
    forecaster.prognosis.set_scale([4.2, 95, 220, 90, -1, 0.3, 3, 160], [0.1, 4, 10, 6, 0.2, 0.1, 0.5, 8])
    forecaster.prognosis.death.bias.data -= 9
    forecaster.prognosis.signs.bias.data[7] += 9  # P waves, regular, T measurable
    return WorldModel(vae, forecaster.eval(), steps=3, draws="diffusion")


@pytest.fixture(scope="module")
def papers(vae):
    """The paper's form: no prognosis, a trace of lead II, a projection, the last strip redrawn."""
    torch.manual_seed(0)
    names = render_names(has_targets=False)
    features = FeatureScale.fit(names, np.random.default_rng(0).normal(50, 50, (9, len(names))))
    size = DenoiserConfig(len(names), width=32, blocks=2, condition_width=16, kernel=3)
    forecaster = Forecaster(size, features, projection=ProjectionConfig(width=8, blocks=1))
    return WorldModel(vae, loosened(forecaster, 0.15), steps=3, reference="last", draws="diffusion")


@pytest.fixture(scope="module")
def state(world):
    rows = [world.observe(ECG(strip(rr), MODEL_RATE_HZ), SOMEONE) for rr in (0.7, 0.8, 0.95, 1.1)]
    return concatenate(rows)


def generators(n):
    return [np.random.default_rng([5, i]) for i in range(n)]


def test_observe_shows_the_strip_as_the_codec_sees_it(world):
    seen = world.observe(ECG(strip(), MODEL_RATE_HZ), SOMEONE, [Administration(-2.0, DOFETILIDE.doses[0])])
    assert seen.ecg.shape == (1, 12, 1024)
    assert world.latents(seen).shape == (1, *world.latent_shape)
    with torch.inference_mode():
        decoded = world.vae.decode(torch.from_numpy(world.latents(seen))).numpy()
    np.testing.assert_array_equal(seen.ecg, decoded)
    assert seen.doses == ((Administration(-2.0, DOFETILIDE.doses[0]),),)
    np.testing.assert_allclose(seen.ecg[:, 2], seen.ecg[:, 1] - seen.ecg[:, 0], atol=1e-5)  # Einthoven


def test_virtual_people_begin_without_a_strip_and_show_that_of_their_hearts(world):
    rng = np.random.default_rng
    begun, hearts = (w.initial(5, rng(8), rhythm="sinus") for w in (world, VirtualPatient()))
    assert all(one.origin is not None for one in begun.inner["record"])
    vitals, look = world.vitals(begun), VirtualPatient().vitals(hearts, findings=False)
    np.testing.assert_array_equal(vitals["qtcf_ms"], look["qtcf_ms"].astype(np.float32))
    np.testing.assert_array_equal(vitals["map_mmhg"], look["map_mmhg"])
    later = world.step(begun, [WATCH] * 5, rng(1))
    assert all(one.origin is not None for one in later.inner["baseline"])  # nothing was drawn on the way
    measured = world.start_from(hearts)
    np.testing.assert_allclose(begun.ecg, measured.ecg, atol=1e-4)
    np.testing.assert_array_equal(begun.inner["exposure"], measured.inner["exposure"])
    observed, of_look = measured.inner["observed"], begun.inner["observed"]
    known = np.isfinite(observed)
    assert (np.isfinite(of_look) == known).mean() > 0.95, "nothing that strips tell is left out"
    for name, near in (("hr_bpm", 6), ("rr_sd_ms", 12), ("jtpeak_ms", 30), ("qtcf_ms", 30), ("qrs_ms", 15)):
        i = OBSERVED.index(name)
        np.testing.assert_allclose(of_look[:, i], observed[:, i], atol=near)


def test_where_strips_are_judged_the_first_is_measured(world):
    judged = replace(world, fidelity="strip")
    begun = judged.initial(3, np.random.default_rng(8))
    strips = np.stack([one.strip for one in begun.inner["record"]])
    np.testing.assert_array_equal(begun.inner["observed"], observe_strips(strips).astype(np.float32))


def test_a_missing_lead_is_not_read(world):
    clean, spoilt = strip(), strip()
    spoilt[LEADS.index("V2")] = 7.0
    seen = [world.observe(ECG(s, MODEL_RATE_HZ, missing=("V2",)), SOMEONE) for s in (clean, spoilt)]
    np.testing.assert_array_equal(world.latents(seen[0]), world.latents(seen[1]))
    assert seen[0].inner["baseline"][0].missing.tolist() == [False, False, False, True, False, False, False, False]
    whole = world.observe(ECG(clean, MODEL_RATE_HZ), SOMEONE)
    assert not np.array_equal(world.latents(whole), world.latents(seen[0]))


def test_intervals_are_measured_in_the_leads_that_were_recorded(world):
    ecg, absent = strip(), [LEADS.index(lead) for lead in ("V2", "V5")]
    ecg[absent] = 3.0
    record = ECG(ecg, MODEL_RATE_HZ, missing=("V2", "V5"))
    state, flat = world.observe(record, SOMEONE), to_model_grid(record).signal.copy()
    present = np.setdiff1d(np.arange(len(LEADS)), absent)
    complete = world.drawing.whole(state.inner["record"])[0]
    np.testing.assert_allclose(complete[present], flat[present], atol=1e-6)
    flat[absent] = 0.0
    np.testing.assert_array_equal(
        state.inner["observed"], observe_strips(flat[None].astype(np.float32)).astype(np.float32)
    )


def test_a_step_remembers_doses_and_time(world, state):
    later = world.step(state, [WATCH, DOFETILIDE, WATCH, DOFETILIDE], np.random.default_rng(0))
    assert later.ecg.shape == state.ecg.shape
    assert np.isfinite(later.ecg).all()
    np.testing.assert_allclose(later.ecg[:, 2], later.ecg[:, 1] - later.ecg[:, 0], atol=1e-4)
    assert [len(t) for t in later.doses] == [0, 1, 0, 1]
    assert later.doses[1][0] == Administration(0.0, DOFETILIDE.doses[0])
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
    assert later.doses[1] == ()
    assert later.hours[1] == 0
    nobody = replace(state, alive=np.zeros(4, dtype=bool))
    np.testing.assert_array_equal(world.step(nobody, [WATCH] * 4, generators(4)).ecg, state.ecg)


def test_chunks_change_nothing(world, state, monkeypatch):
    whole = world.step(state, [DOFETILIDE] * 4, generators(4))
    monkeypatch.setattr(model, "CHUNK", 3)
    monkeypatch.setattr(drawing, "CHUNK", 3)
    np.testing.assert_allclose(world.step(state, [DOFETILIDE] * 4, generators(4)).ecg, whole.ecg, atol=2e-4)


def test_the_anchor_can_be_turned_down(world, state):
    target = state.inner["observed"]
    full, weak, off = (
        replace(world, epk_scale=scale).drawing.knowledge(state, target, generators(4)) for scale in (1.0, 0.25, 0.0)
    )
    assert full.strength.tolist() == [1, 1, 1, 1]
    assert weak.strength.tolist() == [0.25] * 4
    assert off.strength.tolist() == [0, 0, 0, 0]
    assert world.forecaster.anchor(off).abs().sum() == 0
    assert world.forecaster.anchor(full).abs().sum() > 0
    torch.testing.assert_close(world.forecaster.anchor(full), world.forecaster.anchor(weak))


def test_the_prior_abstains_without_beats(world):
    flat = world.observe(ECG(strip() * 0 + 1e-4 * strip(), MODEL_RATE_HZ), SOMEONE)
    flat.inner["baseline"][0].fit = drawing.fit_leads(
        np.zeros((1, 12, 1024), np.float32), drawing.as_rows(flat.inner["observed"])
    )
    known = world.drawing.knowledge(flat, flat.inner["observed"], generators(1))
    assert known.strength.tolist() == [0]


def test_what_is_believed_of_pharmacology_can_be_changed(world, state):
    treated = [DOFETILIDE] * 4
    deaf = replace(world, believed=lambda before, after: before)
    rngs = [[np.random.default_rng(i) for i in range(4)] for _ in range(3)]
    drug, ignored = world.step(state, treated, rngs[0]), deaf.step(state, treated, rngs[1])
    watched = deaf.step(state, [WATCH] * 4, rngs[2])
    # the chance that a rhythm ends is told apart from the board, so the two are not quite the same
    observed = [np.nan_to_num(later.inner["observed"]) for later in (drug, ignored, watched)]
    assert np.abs(observed[0] - observed[1]).max() > 10 * np.abs(observed[1] - observed[2]).max()


def test_the_dead_are_silent_and_stay_so(world, state):
    deadly = replace(world, forecaster=copy.deepcopy(world.forecaster))
    deadly.forecaster.prognosis.death.bias.data += 30
    later = deadly.step(state, [WATCH] * 4, generators(4))
    assert not later.alive.any()
    assert (later.ecg == 0).all()
    assert np.isnan(later.inner["observed"]).all()
    np.testing.assert_array_equal(world.step(later, [WATCH] * 4, generators(4)).ecg, later.ecg)


def test_strips_are_redrawn_from_the_first_one(world, state):
    once = world.step(state, [WATCH] * 4, generators(4))
    assert all(a is b for a, b in zip(once.inner["baseline"], state.inner["baseline"]))
    assert not np.array_equal(world.latents(once), world.latents(state))
    np.testing.assert_array_equal(once.inner["baseline_observed"], state.inner["observed"])
    last = replace(world, reference="last")
    redrawn = last.step(state, [WATCH] * 4, generators(4))
    again = last.step(redrawn, [WATCH] * 4, generators(4))
    first = world.step(world.step(state, [WATCH] * 4, generators(4)), [WATCH] * 4, generators(4))
    assert all(record is not None for record in redrawn.inner["record"])
    assert not np.allclose(again.ecg, first.ecg, atol=1e-3)


def test_another_worlds_people_are_seen_through_the_codec(world):
    from ecg_gym.virtual_patient import VirtualPatient

    there = VirtualPatient().initial(2, np.random.default_rng(0), healthy=True)
    seen = world.start_from(replace(there, hours=there.hours + 3))
    assert seen.patients == there.patients
    assert seen.hours.tolist() == [3, 3]
    alone = world.observe(ECG(there.ecg[0], MODEL_RATE_HZ), there.patients[0])
    np.testing.assert_allclose(world.latents(seen)[0], world.latents(alone)[0], atol=0.1)  # aligned anew


def test_the_papers_form_steps_too(papers):
    state = concatenate([papers.observe(ECG(strip(rr), MODEL_RATE_HZ), SOMEONE) for rr in (0.8, 1.0)])
    for record, rr in zip(state.inner["record"], (0.8, 1.0)):
        record.view = strip(rr)  # the untrained codec shows noise
    later = papers.step(state, [DOFETILIDE, WATCH], generators(2))
    assert later.alive.all()
    assert np.isfinite(later.ecg).all()
    assert not papers.emits
    np.testing.assert_array_equal(later.inner["observed"], observe_strips(later.ecg).astype(np.float32))


def test_knobs_are_checked(world):
    for knob, value in (
        ("sampler", "euler"), ("backend", "tpu"), ("deterministic", "yes"), ("epk_scale", 2.0), ("dt_hours", 0.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected"):
            replace(world, **{knob: value})


def test_one_treatment_per_row(world, state):
    with pytest.raises(ValueError, match="1 treatments for 4 rows; expected one per row"):
        world.step(state, [WATCH], generators(4))


def test_a_student_is_asked_for_only_where_there_is_one(world):
    with pytest.raises(ValueError, match=r"sampler is 'student', but .* expected a file student\.safetensors"):
        replace(world, sampler="student")


def write(world, folder):
    codec = checkpoint.save(
        folder / "vae.safetensors", KIND, world.vae.state_dict(), world.vae.config, data={}, metrics={}
    )
    return model.save(folder / "world_model.safetensors", world.forecaster, codec, data={}, metrics={})


def test_weights_come_back_as_they_were(world, state, tmp_path):
    digest = write(world, tmp_path)
    for path in (tmp_path, tmp_path / "world_model.safetensors"):
        loaded = WorldModel.load(path, steps=3, sampler=None, draws="diffusion")
        assert loaded.sha256 == digest
        # one drawing each: which of two drawings shows better what was said is a choice, and rounding can turn it
        once = (replace(w, corrections=0) for w in (loaded, world))
        again, first = (w.step(state, [DOFETILIDE] * 4, generators(4)).ecg for w in once)
        assert np.abs(again - first).max() < 0.01 * np.abs(first).max()  # stored as float16


def test_a_world_that_is_made_draws_as_one_that_is_loaded(world, papers, tmp_path):
    write(world, tmp_path)
    made, loaded = WorldModel(world.vae, world.forecaster), WorldModel.load(tmp_path)
    assert (made.draws, made.fidelity) == (loaded.draws, loaded.fidelity) == ("warp", "vitals")
    write(papers, tmp_path)
    of_papers = WorldModel.load(tmp_path)
    assert (of_papers.draws, of_papers.fidelity) == ("diffusion", "strip"), (
        "nothing is said of a strip before it is drawn"
    )
    assert WorldModel.load(tmp_path, draws="warp").draws == "warp"


def test_a_foreign_codec_is_refused(world, tmp_path):
    write(world, tmp_path)
    other = VAE(VAEConfig(width=16, fine_width=8, dilations=(1,)))
    checkpoint.save(tmp_path / "vae.safetensors", KIND, other.state_dict(), other.config, data={}, metrics={})
    with pytest.raises(ValueError, match=r"was trained with the codec .* expected .* keep both files together"):
        WorldModel.load(tmp_path)


def test_absent_weights_name_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"no weights at .* expected .* `ecg-gym train world-model`"):
        WorldModel.load(tmp_path)


def test_weights_of_another_version_are_refused(world, tmp_path):
    write(world, tmp_path)
    old = checkpoint.load(tmp_path / "world_model.safetensors", "world_model")
    config = {"denoiser": old.config["denoiser"], "projection": None, "features": old.config["features"]}
    checkpoint.save(
        tmp_path / "world_model.safetensors", "world_model", old.tensors, config, data={}, metrics={},
        vae_sha256=old.metadata["vae_sha256"],
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"say nothing of \['prognosis', 'outlook'\]; expected .* retrain"):
        WorldModel.load(tmp_path)


def test_the_condition_tells_before_from_after():
    raw = some_features()
    value = dict(zip(feature_names(), raw.T))
    assert raw.shape == (4, len(feature_names()))
    assert (value["after.modulation.jtpeak_ms"] > value["before.modulation.jtpeak_ms"]).all()
    np.testing.assert_array_equal(value["home.modulation.jtpeak_ms"], value["before.modulation.jtpeak_ms"])
    assert value["clock.step_hours"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(value["measured.hr_bpm"], [60 / (0.7 + 0.1 * i) for i in range(4)], rtol=0.02)


def test_no_drug_is_named():
    """A drug that comes after training is heard through the same words as all others."""
    from ecg_gym.pharmacology import FORMULARY

    names = [name for name in [*feature_names(), *render_names()] if not name.startswith("condition.")]
    words = {word for name in names for word in name.split(".") if ".serum" not in name and "person" not in name}
    assert not set(FORMULARY.names) & (words - {"magnesium", "potassium", "calcium"})


def test_what_is_unknown_is_flagged_and_stands_at_rest():
    unknown = some_features(patients=(Patient(),) * 4)
    value = dict(zip(feature_names(), unknown.T))
    for name in ("person.age_years", "person.female"):
        assert np.isnan(value[name]).all()
        assert (value[f"known.{name}"] == 0).all()
    raw, names = complete(unknown, feature_names())
    scaled = FeatureScale.fit(names, complete(some_features(), feature_names())[0])(raw, names)
    assert np.isfinite(scaled).all()
    assert (scaled[:, names.index("person.age_years")] == 0).all()


def test_what_is_asked_is_told_in_units():
    raw, n = some_features(), 4
    exposure = np.zeros((n, len(exposures(((),), (SOMEONE,), np.zeros(1))[0])))
    look = Look(raw[:, : len(OBSERVED)] * 0 + 1, exposure, np.zeros(n), unread(n))
    request = np.arange(n * len(OBSERVED), dtype=float).reshape(n, -1)
    request[0, OBSERVED.index("pr_ms")] = np.nan
    value = render_features(
        people((SOMEONE,) * n), look, look.exposure, np.ones(n), np.zeros((n, 8), bool), np.full(n, 0.5), request
    )
    column = dict(zip(render_names(), value.T))
    np.testing.assert_array_equal(column["asked.qt_ms"], request[:, OBSERVED.index("qt_ms")])
    assert column["known.asked.pr_ms"].tolist() == [0, 1, 1, 1]
    assert (column["epk.strength"] == 0.5).all()
    assert len(MEASURED) == len(OBSERVED) - 2


def test_features_are_matched_by_name():
    names, raw = feature_names(), some_features()
    scale = FeatureScale.fit(names, raw)
    order = np.random.default_rng(0).permutation(len(names))
    np.testing.assert_array_equal(scale(raw, names), scale(raw[:, order], [names[i] for i in order]))
    gone = names.index("after.modulation.jtpeak_ms")
    kept = [i for i in range(len(names)) if i != gone]
    assert (scale(raw[:, kept], [names[i] for i in kept])[:, gone] == 0).all()


def test_scaling_makes_rare_and_common_features_equally_loud():
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(5000) < 0.02, 3000.0, 0.0)
    common = 60 + 8 * rng.standard_normal(5000)
    scaled = FeatureScale.fit(("rare", "common"), np.stack([rare, common], axis=1))(
        np.stack([rare, common], axis=1), ("rare", "common")
    )
    assert np.abs(scaled[rare > 0, 0]).mean() == pytest.approx(0.88, abs=0.01)  # asinh(1)
    assert scaled[:, 1].std() == pytest.approx(0.8, abs=0.1)


def test_expected_intervals_follow_from_the_measured_ones():
    names, raw = feature_names(), some_features()
    for word, before, after in (
        ("sinus_rate", 1.0, 1.25), ("jtpeak_ms", 5.0, 30.0), ("tpeak_tend_ms", 0.0, 15.0), ("pr_ms", 0.0, 12.0),
        ("conduction", 1.0, 0.8),
    ):  # fmt: skip
        raw[:, names.index(f"before.modulation.{word}")] = before
        raw[:, names.index(f"home.modulation.{word}")] = before
        raw[:, names.index(f"after.modulation.{word}")] = after
    filled, all_names = complete(raw, names)
    value = dict(zip(all_names, filled.T))
    for label, start in (("expected", "measured"), ("expected_from_home", "home")):
        np.testing.assert_allclose(value[f"{label}.hr_bpm"], 1.25 * value[f"{start}.hr_bpm"], rtol=1e-6)
        np.testing.assert_allclose(value[f"{label}.pr_ms"], value[f"{start}.pr_ms"] + 12, rtol=1e-6)
        np.testing.assert_allclose(value[f"{label}.qrs_ms"], value[f"{start}.qrs_ms"] / 0.8, rtol=1e-6)
        longer = 25 + 15 + 0.25 * value[f"{start}.qrs_ms"]
        np.testing.assert_allclose(value[f"{label}.qtcf_ms"], value[f"{start}.qtcf_ms"] + longer, rtol=1e-6)
        np.testing.assert_allclose(
            value[f"{label}.qt_ms"], (value[f"{start}.qt_ms"] + longer) / 1.25 ** (1 / 3), rtol=1e-6
        )


@pytest.mark.slow
def test_it_is_a_world(world):
    from ecg_gym.checks import check_world

    check_world(replace(world, deterministic="batch"))


def test_a_student_of_other_weights_is_left_alone_until_it_is_asked_for(world, tmp_path):
    from ecg_gym.world_model.student import save_student

    write(world, tmp_path)
    other = copy.deepcopy(world.forecaster)
    loosened(other.denoiser)
    save_student(
        tmp_path / "student.safetensors", other.denoiser, {2: (1000, 300, 0)}, other, "0" * 64, data={}, metrics={}
    )
    assert WorldModel.load(tmp_path).student is None
    with pytest.raises(ValueError, match="learnt from the world model"):
        WorldModel.load(tmp_path, sampler="student")


def test_a_step_draws_nothing_until_somebody_looks(world, state, monkeypatch):
    monkeypatch.setattr(drawing.Drawing, "encode", lambda *_: pytest.fail("a strip was encoded"))
    monkeypatch.setattr(drawing.Drawing, "decode", lambda *_: pytest.fail("a strip was decoded"))
    crowd = state.repeat(5)
    later = world.step(world.step(crowd, [DOFETILIDE] * 20, generators(20)), [WATCH] * 20, generators(20))
    vitals = world.vitals(later)
    np.testing.assert_array_equal(vitals["qrs_ms"], later.inner["observed"][:, OBSERVED.index("qrs_ms")])
    assert "ecg" not in later.__dict__


def test_a_strip_looks_the_same_whenever_it_is_drawn(world, state):
    later = world.step(state, [WATCH] * 4, generators(4))
    np.testing.assert_allclose(later[[3, 1]].ecg, later.ecg[[3, 1]], atol=2e-4)


def test_what_is_not_shown_is_asked_for_again_less_its_error():
    goal = observe_strips(np.stack([strip(0.8), strip(1.0)]))
    read = goal.copy()
    read[0, OBSERVED.index("qrs_ms")] += 10
    again = drawing.less_its_error(goal, read)
    assert again[0, OBSERVED.index("qrs_ms")] == pytest.approx(goal[0, OBSERVED.index("qrs_ms")] - 10)
    assert again[0, OBSERVED.index("qt_ms")] == pytest.approx(goal[0, OBSERVED.index("qt_ms")] - 10)
    np.testing.assert_allclose(again[1], goal[1], atol=1e-6)
    assert drawing.missed(goal, read).tolist() == pytest.approx([10, 0])
    unmeasured = goal.copy()
    unmeasured[1, OBSERVED.index("pr_ms")] = np.nan
    assert drawing.missed(goal, unmeasured)[1] == drawing.LOST_MS


def test_a_strip_that_shows_another_rhythm_is_drawn_with_other_noise(world, state, monkeypatch):
    later = replace(world, draws="warp").step(state, [WATCH] * 4, generators(4))
    usual = later.ecg
    readings = []

    def turned_at_first(strips):
        read = observe_strips(strips)
        read[:, OBSERVED.index("regular")] = (
            later.inner["observed"][:, OBSERVED.index("regular")]
            if readings
            else 1 - (later.inner["observed"][:, OBSERVED.index("regular")] > 0.5)
        )
        readings.append(len(strips))
        return read

    monkeypatch.setattr(drawing, "observe_strips", turned_at_first)
    again = later.replaced(inner=dict(later.inner), ecg=replace(world, draws="warp").drawing).ecg
    assert readings[:2] == [4, 4]
    assert (np.abs(again - usual).max(axis=(1, 2)) > 1e-3).all()


def test_a_warped_strip_shows_what_was_asked(world, state):
    warped = replace(world, draws="warp", corrections=2)
    target = state.inner["observed"].astype(float).copy()
    target[:, OBSERVED.index("pr_ms")] += 20
    target = drawing.less_its_error(target, target)
    there = state.replaced(inner={**state.inner, "observed": target, "record": np.full(4, None)}, ecg=warped.drawing)
    read = observe_strips(there.ecg)
    assert np.abs(read - target)[:, OBSERVED.index("pr_ms")].max() <= 4


def test_every_strip_is_remembered_and_a_rollout_starts_from_the_first(world, state):
    later = state.replaced(hours=state.hours + 1)
    other = ECG(np.stack([strip(rr) for rr in (0.72, 0.82, 0.97, 1.12)]), MODEL_RATE_HZ)
    once = world.assimilate(later, other)
    count = len(memory.SUMS) - 1
    sums = once.inner["memory"].reshape(4, len(memory.SUMS), -1)
    assert (sums[:, count] == 1).all(), "the first look is among those remembered"
    np.testing.assert_array_equal(once.inner["baseline_observed"], state.inner["baseline_observed"])
    again = world.assimilate(once, other)  # the same hour: what was seen gives way, nothing is remembered twice
    np.testing.assert_array_equal(again.inner["memory"], once.inner["memory"])
    stepped = world.step(once, [WATCH] * 4, generators(4))
    assert (stepped.inner["memory"].reshape(4, len(memory.SUMS), -1)[:, count] == 2).all()


def test_the_env_reads_what_is_said_and_the_same_spaces(world):
    from ecg_gym.envs.config import EnvConfig, make_setup

    spaces = [make_setup(EnvConfig(world=world, risk="limits", fidelity=f)).observation_space for f in (None, "strip")]
    assert spaces[0] == spaces[1]
    assert make_setup(EnvConfig(world=world, risk="limits")).task.fidelity == "vitals"


def test_harder_views_add_their_errors_and_no_more(world, state):
    from ecg_gym.envs.observability import tier_named

    clean = world.vitals(state)
    tier = tier_named("noisy")
    noisy = world.vitals(state, (tier, [()] * 4))
    again = world.vitals(state, (tier, [()] * 4))
    assert np.isfinite(clean["qrs_ms"]).all()
    assert not np.array_equal(noisy["qrs_ms"], clean["qrs_ms"])
    np.testing.assert_array_equal(noisy["qrs_ms"], again["qrs_ms"])
    assert np.nanmax(np.abs(noisy["qrs_ms"] - clean["qrs_ms"])) < 60
