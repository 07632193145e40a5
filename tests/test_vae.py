"""The codec: what it must be whatever it has learned, and that a tiny training learns something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_gym.core import LEADS, MODEL_SAMPLES, independent_from_leads, limb_from_independent
from ecg_gym.datasets import splits
from ecg_gym.world_model import checkpoint
from ecg_gym.world_model.vae import LATENT_CHANNELS, LATENT_LENGTH, VAE, VAEConfig, expand_leads
from training import vae as training
from training.strips import MAX_PEAKS, Strips, augment, load_strips, save_strips

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
    decoded = codec.decode(torch.randn(3, LATENT_CHANNELS, LATENT_LENGTH)).detach().numpy()
    lead = dict(zip(LEADS, decoded.swapaxes(0, 1)))
    np.testing.assert_allclose(lead["I"] + lead["III"], lead["II"], atol=1e-5)
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-5)


def test_twelve_and_eight_leads_encode_alike(codec: VAE) -> None:
    twelve = expand_leads(strip())
    assert torch.equal(codec.encode(twelve), codec.encode(strip()))
    assert independent_from_leads(twelve.numpy()).shape == strip().shape


def test_shapes_and_a_batch_of_one(codec: VAE) -> None:
    latent = codec.encode(strip(3))
    assert latent.shape == (3, LATENT_CHANNELS, LATENT_LENGTH)
    assert codec.decode(latent).shape == (3, 12, MODEL_SAMPLES)
    torch.testing.assert_close(codec.encode(strip(3)[1:2])[0], latent[1], atol=1e-5, rtol=1e-4)


def test_neither_direction_changes_its_input(codec: VAE) -> None:
    signal, latent = strip(), torch.randn(2, LATENT_CHANNELS, LATENT_LENGTH)
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
    training.measure_latent_scale(codec, strips)
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
        int(p) for p in peaks[0] if p + training.BEAT_SAMPLES[0] >= 0 and p + training.BEAT_SAMPLES[1] <= MODEL_SAMPLES
    ]
    whole = whole[: len(whole) // 2 * 2]
    for sign, place in zip([1.0, -1.0] * len(whole), whole):
        alternating[0, :, place] = sign
    peaks = torch.tensor([whole + [-1] * 3])
    mean = training.beat_average(signal, peaks)
    assert mean[0, 0].argmax() == -training.BEAT_SAMPLES[0]  # the R peak, where the window says
    assert training.beat_average(alternating, peaks).abs().max() < 1e-6
    assert torch.equal(training.beat_average(signal, torch.full((1, 4), -1)), torch.zeros_like(mean))


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
    preset = training.PRESETS["tiny"]
    preset = replace(preset, loop=replace(preset.loop, steps=50, learning_rate=1e-2))
    for _ in training.train(preset, strips, strips.where(np.arange(0)), tmp_path, show=False):
        pass
    vae = VAE.load(tmp_path / "vae.safetensors")
    signal = torch.from_numpy(strips.signal.astype(np.float32))
    with torch.no_grad():
        error = (independent_from_leads(vae.decode(vae.encode(signal)).numpy()) - signal.numpy()).__abs__().mean()
    assert error < 0.8 * signal.abs().mean()


def test_strips_survive_the_disk(tmp_path) -> None:
    strips = beats(3)
    save_strips(strips, tmp_path / "strips.npz")
    back = load_strips(tmp_path / "strips.npz")
    for name in ("signal", "peaks", "record", "split"):
        np.testing.assert_array_equal(getattr(back, name), getattr(strips, name))
    assert back.sources == strips.sources


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preset is 'huge'; expected one of .*tiny"):
        training.preset_named("huge")


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
    path = training.run(training.PRESETS["tiny"], None, tmp_path, show=False)
    metrics = checkpoint.load(path, "vae").metadata["metrics"]["held_out_virtual"]
    assert 0 < metrics["mae_mv"]["value"] < 1
    assert set(metrics["mae_mv"]["baselines"]) >= {"flat line", "DCT, 64 per lead"}
    VAE.load(path)
