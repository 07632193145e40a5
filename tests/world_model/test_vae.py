"""The codec: what it must be whatever it has learned, and that a tiny training learns something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym import checkpoint
from ecg_gym.core import LEADS, MODEL_SAMPLES, independent_from_leads, limb_from_independent
from ecg_gym.datasets import splits
from ecg_gym.world_model.vae import LATENT_LENGTH, PAPER_CHANNELS, VAE, VAEConfig, expand_leads
from training import train_codec
from training.data.sources import _limited, virtual_strips
from training.data.strips import MAX_PEAKS, Strips, _replay, augment, load_strips, save_strips
from training.evaluation.world_model import codec as study

TINY = VAEConfig(width=16, fine_width=8, dilations=(1, 2))


@pytest.fixture
def codec() -> VAE:
    torch.manual_seed(0)
    vae = VAE(TINY)
    for parameter in vae.parameters():  # blocks begin as the identity; stir them, so that tests see all of them
        torch.nn.init.normal_(parameter, std=0.1)
    vae.set_latent_scale(torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([0.5, 1.5, 2.0, 0.7]))
    return vae.eval()


def strip(n: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 8, MODEL_SAMPLES), dtype=np.float32))


def beats(n: int) -> Strips:
    """Strips made of Gaussian beats of known place, rate and axis: something a codec can learn in seconds."""
    rng = np.random.default_rng(1)
    time = np.arange(MODEL_SAMPLES)
    signal, peaks = np.zeros((n, 8, MODEL_SAMPLES), np.float32), np.full((n, MAX_PEAKS), -1, np.int16)
    for row in range(n):
        places = np.arange(41, MODEL_SAMPLES, int(rng.integers(60, 110)))
        peaks[row, : len(places)] = places
        axis = rng.uniform(0.5, 1.5, (8, 1))
        for place in places:
            signal[row] += axis * np.exp(-(((time - place) / 2) ** 2)) + 0.3 * axis * np.exp(
                -(((time - place - 28) / 8) ** 2)
            )
    names = np.array([f"made/{row}" for row in range(n)])
    return Strips(signal.astype(np.float16), peaks, names, np.full(n, "train"), ("made for this test",))


def test_the_other_four_leads_are_the_same_for_tensors_and_arrays() -> None:
    independent = strip()
    np.testing.assert_array_equal(expand_leads(independent).numpy(), limb_from_independent(independent.numpy()))


def test_einthoven_and_goldberger_hold_in_whatever_is_decoded(codec: VAE) -> None:
    decoded = codec.decode(torch.randn(3, PAPER_CHANNELS, LATENT_LENGTH)).detach().numpy()
    lead = dict(zip(LEADS, decoded.swapaxes(0, 1)))
    np.testing.assert_allclose(lead["I"] + lead["III"], lead["II"], atol=1e-5)
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-5)


def test_twelve_and_eight_leads_encode_alike(codec: VAE) -> None:
    twelve = expand_leads(strip())
    assert torch.equal(codec.encode(twelve), codec.encode(strip()))
    assert independent_from_leads(twelve.numpy()).shape == strip().shape


def test_shapes_and_a_batch_of_one(codec: VAE) -> None:
    latent = codec.encode(strip(3))
    assert latent.shape == (3, PAPER_CHANNELS, LATENT_LENGTH)
    assert codec.decode(latent).shape == (3, 12, MODEL_SAMPLES)
    torch.testing.assert_close(codec.encode(strip(3)[1:2])[0], latent[1], atol=1e-5, rtol=1e-4)


def test_neither_direction_changes_its_input(codec: VAE) -> None:
    signal, latent = strip(), torch.randn(2, PAPER_CHANNELS, LATENT_LENGTH)
    kept_signal, kept_latent = signal.clone(), latent.clone()
    codec.encode(signal, torch.tensor([[1.0] * 7 + [0.0]] * 2))
    codec.decode(latent)
    assert torch.equal(signal, kept_signal)
    assert torch.equal(latent, kept_latent)


def test_standardised_latents_lead_back_to_the_raw_ones(codec: VAE) -> None:
    raw, _ = codec.posterior(strip())
    standardised = codec.encode(strip())
    torch.testing.assert_close(standardised * codec.latent_std + codec.latent_mean, raw)
    torch.testing.assert_close(codec.decode(standardised), expand_leads(codec.reconstruct(raw)), atol=1e-5, rtol=1e-4)


def test_the_measured_scale_gives_each_channel_mean_zero_and_unit_spread(codec: VAE) -> None:
    strips = beats(40)
    train_codec.measure_latent_scale(codec, strips)
    latent = codec.encode(torch.from_numpy(strips.signal.astype(np.float32)))
    torch.testing.assert_close(latent.mean(dim=(0, 2)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latent.std(dim=(0, 2)), torch.ones(4), atol=1e-3, rtol=0)


def test_a_posterior_sample_is_asked_for_and_repeatable(codec: VAE) -> None:
    first, again = (codec.encode(strip(), rng=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, codec.encode(strip()))


def test_a_missing_lead_is_not_read_even_if_it_is_not_a_number(codec: VAE) -> None:
    mask = torch.ones(2, 8)
    mask[:, 3] = 0
    empty, broken = strip(), strip()
    empty[:, 3], broken[:, 3] = 0, float("nan")
    assert torch.equal(codec.encode(empty, mask), codec.encode(broken, mask))
    assert not torch.equal(codec.encode(empty, mask), codec.encode(empty)), "a missing lead is not a flat one"


@pytest.mark.parametrize("shape", [(12, 1024), (1, 12, 1000), (1, 11, 1024)])
def test_a_signal_off_the_model_grid_is_refused(codec: VAE, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"signal has shape .*; expected .*to_model_grid"):
        codec.encode(torch.zeros(shape))


def test_a_latent_of_another_shape_is_refused(codec: VAE) -> None:
    with pytest.raises(ValueError, match=r"latent has shape \(4, 128\); expected \(B, 4, 128\)"):
        codec.decode(torch.zeros(4, 128))


def test_the_beat_average_keeps_what_repeats_and_drops_what_does_not() -> None:
    strips = beats(1)
    signal, peaks = torch.from_numpy(strips.signal.astype(np.float32)), torch.from_numpy(strips.peaks.astype(np.int64))
    alternating = torch.zeros_like(signal)
    whole = [
        int(p)
        for p in peaks[0]
        if p + train_codec.BEAT_SAMPLES[0] >= 0 and p + train_codec.BEAT_SAMPLES[1] <= MODEL_SAMPLES
    ]
    whole = whole[: len(whole) // 2 * 2]
    for sign, place in zip([1.0, -1.0] * len(whole), whole):
        alternating[0, :, place] = sign
    peaks = torch.tensor([whole + [-1] * 3])
    mean = train_codec.beat_average(signal, peaks)
    assert mean[0, 0].argmax() == -train_codec.BEAT_SAMPLES[0]  # the R peak, where the window says
    assert train_codec.beat_average(alternating, peaks).abs().max() < 1e-6
    assert torch.equal(train_codec.beat_average(signal, torch.full((1, 4), -1)), torch.zeros_like(mean))


def test_augmented_peaks_still_stand_on_the_beats() -> None:
    strips = beats(8)
    for seed in range(40):
        row = augment(strips, seed % 8, np.random.default_rng(seed))
        inside = [p for p in row["peaks"] if 5 <= p < MODEL_SAMPLES - 5]
        assert len(inside) >= 6
        lead = np.abs(row["target"]).sum(axis=0)
        for place in inside:
            assert abs(int(lead[place - 5 : place + 6].argmax()) - 5) <= 1
        assert row["target"].shape == row["input"].shape == (8, MODEL_SAMPLES)
        assert 2 <= row["mask"].sum() <= 8


def test_a_tiny_training_beats_a_flat_line_and_ships_what_it_learned(tmp_path) -> None:
    strips = beats(64)
    preset = train_codec.PRESETS["tiny"]
    preset = replace(preset, loop=replace(preset.loop, steps=50, learning_rate=1e-2))
    for _ in train_codec.train(preset, strips, strips.where(np.arange(0)), tmp_path, show=False):
        pass
    vae = VAE.load(tmp_path / "vae.safetensors")
    signal = torch.from_numpy(strips.signal.astype(np.float32))
    with torch.no_grad():
        error = (independent_from_leads(vae.decode(vae.encode(signal)).numpy()) - signal.numpy()).__abs__().mean()
    assert error < 0.8 * signal.abs().mean()


def test_training_begins_with_the_weights_it_is_given_and_says_so(tmp_path, codec: VAE) -> None:
    strips = beats(8)
    start = tmp_path / "start.safetensors"
    train_codec.save(codec, start, train_codec.PRESETS["tiny"], [strips], {})
    preset = train_codec.PRESETS["tiny"]
    preset = replace(preset, loop=replace(preset.loop, steps=1, learning_rate=0.0))
    for _ in train_codec.train(preset, strips, strips.where(np.arange(0)), tmp_path / "run", show=False, start=start):
        pass
    path = tmp_path / "run" / "vae.safetensors"
    begun, ended = VAE.load(start), VAE.load(path)
    assert ended.config == TINY  # the network's size is that of the weights, not the preset's
    for before, after in zip(begun.parameters(), ended.parameters()):
        torch.testing.assert_close(before, after)
    assert checkpoint.load(path, "vae").metadata["started_from"] == checkpoint.sha256(start)


def test_errors_on_leads_that_were_not_shown_do_not_count_at_the_edges_of_waves(codec: VAE) -> None:
    trainer = train_codec.VAETrainer(codec, train_codec.FINE)
    strips = beats(2)
    target = torch.from_numpy(strips.signal.astype(np.float32))
    batch = {"input": target, "target": target.clone(), "peaks": torch.from_numpy(strips.peaks.astype(np.int64))}
    mask = torch.ones(2, 8)
    mask[:, 3] = 0
    rng = torch.Generator().manual_seed(0)
    _, seen = trainer.loss({**batch, "mask": mask}, rng)
    batch["target"][:, 3] += torch.linspace(0, 5, MODEL_SAMPLES)
    _, other = trainer.loss({**batch, "mask": mask}, rng.manual_seed(0))
    for name in ("beat_wave", "beat_slope"):
        torch.testing.assert_close(seen[name], other[name])
    assert other["mae_mv"] > seen["mae_mv"]


def test_local_amplitude_is_the_largest_deflection_nearby() -> None:
    signal = torch.zeros(1, 1, 50)
    signal[0, 0, 20] = -2.0
    near = train_codec.local_amplitude(signal, 5)[0, 0]
    assert torch.equal(near.nonzero().flatten(), torch.arange(18, 23))
    assert near.max() == 2.0


def test_a_strip_played_faster_keeps_the_shape_between_its_samples() -> None:
    time = np.arange(MODEL_SAMPLES)
    smooth = np.sin(2 * np.pi * 6 * time / MODEL_SAMPLES)  # six whole turns: the loop closes by itself
    played, _ = _replay(np.tile(smooth, (8, 1)), np.full(4, -1), 100.0, 1.25)
    targets = np.sin(2 * np.pi * 6 * (100.0 + 1.25 * time) / MODEL_SAMPLES)
    away_from_seam = np.abs((100.0 + 1.25 * time + 30) % MODEL_SAMPLES - 30) > 30
    assert np.abs(played[0] - targets)[away_from_seam].max() < 1e-4
    still, _ = _replay(np.tile(smooth, (8, 1)), np.full(4, -1), 100.0, 1.0)
    np.testing.assert_allclose(still[0][:800], smooth[100:900], atol=1e-6)


def test_rare_virtual_strips_are_other_rhythms_of_other_people() -> None:
    strips = virtual_strips(6, seed=3, rare=1.0)
    assert np.isfinite(strips.signal).all()
    assert strips.signal.shape[1:] == (8, MODEL_SAMPLES)
    assert len(np.unique(strips.record)) == 3
    for record in np.unique(strips.record):
        assert len(np.unique(strips.split[strips.record == record])) == 1
    again = virtual_strips(6, seed=3, rare=1.0)
    np.testing.assert_array_equal(strips.signal, again.signal)


def test_a_limit_on_real_records_spares_the_held_out_ones() -> None:
    records = [(f"r{i}", "test" if i % 5 == 0 else "train", Path(f"r{i}")) for i in range(40)]
    kept = _limited(records, 4)
    assert [name for name, split, _ in kept if split == "test"] == [f"r{i}" for i in range(0, 40, 5)]
    assert sum(split == "train" for _, split, _ in kept) == 4
    assert _limited(records, None) == _limited(records, 32) == records


def test_the_study_says_what_an_exact_code_and_a_flat_line_would_say(tmp_path, codec: VAE, monkeypatch) -> None:
    path = tmp_path / "vae.safetensors"
    strips = virtual_strips(6, seed=4, rare=0.0)
    train_codec.save(codec, path, train_codec.PRESETS["tiny"], [strips], {})
    monkeypatch.setattr(study, "decode_all", lambda vae, signal, mask=None: signal.copy())
    document = study.study(path, {"virtual": (strips, strips)}, gallery=False)
    assert set(document) >= {"study", "preset", "model_sha256", "n_patients", "seeds", "metrics"}
    assert document["model_sha256"] == checkpoint.sha256(path)
    assert document["n_patients"] == 3
    metrics = document["metrics"]
    assert all(set(row) >= {"value", "ci95", "baselines"} for row in metrics.values())
    assert metrics["virtual_mae_mv"]["value"] == 0
    flat = float(np.abs(strips.signal.astype(np.float32)).mean())
    assert metrics["virtual_mae_mv"]["baselines"]["flat line"] == pytest.approx(flat, rel=1e-3)
    assert metrics["virtual_change_qt_ms"]["value"] == metrics["virtual_change_qt_ms_sd"]["value"] == 0
    assert metrics["virtual_change_qt_ms"]["n_failed_only_after"] == 0


def test_a_failed_measurement_behind_the_codec_is_counted() -> None:
    from ecg_gym.waveform import Intervals

    def made(*values: float) -> Intervals:
        return Intervals.from_rows([{"qt_ms": v} for v in values], [""] * len(values))

    nothing = float("nan")
    before, after = made(400, 380, 420, nothing, 390), made(404, 378, nothing, nothing, 396)
    result = study.interval_change(before, after, before, "qt_ms", np.array(list("abcde")))
    assert result["change_qt_ms"]["value"] == pytest.approx((4 - 2 + 6) / 3)
    assert result["change_qt_ms_sd"]["value"] == pytest.approx(np.std([4, -2, 6], ddof=1))
    assert result["change_qt_ms_median_absolute"]["value"] == 4
    assert result["change_qt_ms"]["n"] == 3
    assert result["change_qt_ms"]["n_failed_before"] == result["change_qt_ms"]["n_failed_only_after"] == 1
    assert result["change_qt_ms"]["baselines"]["noise of 10 uV"] == 0


def test_the_gallery_s_strips_are_on_the_model_grid() -> None:
    signal, names = study.gallery_strips(["normal", "torsade"])
    assert signal.shape == (2, 8, MODEL_SAMPLES)
    assert names == ["normal", "torsade"]
    assert np.isfinite(signal).all()


def test_strips_survive_the_disk(tmp_path) -> None:
    strips = beats(3)
    save_strips(strips, tmp_path / "strips.npz")
    back = load_strips(tmp_path / "strips.npz")
    for name in ("signal", "peaks", "record", "split"):
        np.testing.assert_array_equal(getattr(back, name), getattr(strips, name))
    assert back.sources == strips.sources


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preset is 'huge'; expected one of .*tiny"):
        train_codec.preset_named("huge")


def test_splits_keep_a_person_on_one_side(tmp_path) -> None:
    made = {f"record{i}": splits.by_hash(f"patient{i // 3}") for i in range(300)}
    people = {f"record{i}": f"patient{i // 3}" for i in range(300)}
    splits.check_disjoint(made, people)
    assert {"train", "val", "test"} == set(made.values())
    splits.write(tmp_path / "split.json", made)
    assert splits.read(tmp_path / "split.json") == made
    with pytest.raises(ValueError, match=r"patient0 is in .*; expected all records of a person on one side"):
        splits.check_disjoint({"record0": "train", "record1": "test"}, people)
    assert [splits.by_fold(fold) for fold in (1, 8, 9, 10)] == ["train", "train", "val", "test"]
    with pytest.raises(ValueError, match="strat_fold is 11"):
        splits.by_fold(11)


@pytest.mark.slow
def test_the_whole_run_on_virtual_patients_ends_in_weights_with_a_study(tmp_path) -> None:
    path = train_codec.run(train_codec.PRESETS["tiny"], None, tmp_path, show=False)
    metrics = checkpoint.load(path, "vae").metadata["metrics"]["held_out_virtual"]
    assert 0 < metrics["mae_mv"]["value"] < 1
    assert set(metrics["mae_mv"]["baselines"]) >= {"flat line", "DCT, 64 per lead"}
    VAE.load(path)


@pytest.mark.parametrize("channels", [6, 32])
def test_a_widened_codec_says_what_the_narrow_one_said_but_for_its_small_new_channels(
    codec: VAE, channels: int
) -> None:
    wide = train_codec.widened(codec, channels)
    latent = wide.encode(strip())
    assert latent.shape == (2, *wide.latent_shape)
    assert wide.latent_shape == (channels, LATENT_LENGTH)
    torch.testing.assert_close(latent[:, :PAPER_CHANNELS], codec.encode(strip()))
    assert latent[:, PAPER_CHANNELS:].std() > 0  # training can use them
    silent = latent.clone()
    silent[:, PAPER_CHANNELS:] = 0
    torch.testing.assert_close(wide.decode(silent), codec.decode(codec.encode(strip())), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=f"{PAPER_CHANNELS} latent channels, the weights {channels}"):
        train_codec.widened(wide, PAPER_CHANNELS)


def test_weights_that_do_not_say_how_many_channels_they_have_are_of_the_papers_four() -> None:
    assert VAEConfig(width=16).latent_channels == PAPER_CHANNELS == VAE(TINY).latent_shape[0]
