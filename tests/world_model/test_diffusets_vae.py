"""DiffuSETS' codec against a forward in plain NumPy and numbers of the published layers; latents as measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreign import pulse_train, random_tensors, vae_forward

from ecg_gym.core import LEADS, independent_from_leads
from ecg_gym.world_model.diffusets_vae import SCALE, THEIR_LEADS, DiffuSETSConfig, DiffuSETSVAE
from ecg_gym.world_model.vae import expand_leads

SMALL = DiffuSETSConfig(widths=(8, 12, 16), groups=4)
# Of the published layers, narrowed to SMALL, for random_tensors(seed 3) and pulse_train(2, 4): the latent's column 10
# of the first strip, and sample 500 of six decoded leads of the second.
LATENT, DECODED = [0.08257, 0.06925, 0.12618, 0.08964], [-0.16114, 0.10965, 0.05748, -0.1876, 1.31207, 0.55612]
ORDER = [LEADS.index(lead) for lead in THEIR_LEADS]


@pytest.fixture
def codec() -> DiffuSETSVAE:
    codec = DiffuSETSVAE(SMALL).eval()
    shapes = {k: tuple(v.shape) for k, v in codec.state_dict().items() if not k.startswith("latent_")}
    tensors = random_tensors(shapes, 3)
    codec.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()}, strict=False)
    return codec.requires_grad_(False)


def numbers(codec: DiffuSETSVAE) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in codec.state_dict().items()}


def test_the_published_size_has_the_published_names_and_numbers() -> None:
    with torch.device("meta"):
        own = {k: v.shape for k, v in DiffuSETSVAE().state_dict().items() if not k.startswith("latent_")}
    assert len(own) == 240
    assert sum(shape.numel() for shape in own.values()) == 29_552_112
    assert {"encoder.13.groupnorm.weight", "decoder.3.groupnorm.bias", "decoder.20.residual_layer.weight"} <= set(own)


def test_latents_and_strips_are_those_of_the_published_layers_and_of_the_second_forward(codec) -> None:
    strips = pulse_train(2, 4)
    latent = codec.encode(torch.from_numpy(strips))
    assert latent.shape == (2, 4, 128)
    np.testing.assert_allclose(latent[0, :, 10], LATENT, atol=1e-4)
    second = vae_forward(numbers(codec), strips[:, ORDER], "encoder", SMALL.groups)[:, :4]
    np.testing.assert_allclose(latent, SCALE * second, atol=1e-4)
    leads = codec.leads(latent)
    np.testing.assert_allclose(leads[1, :6, 500], DECODED, atol=1e-4)
    np.testing.assert_allclose(
        leads, vae_forward(numbers(codec), latent.numpy() / SCALE, "decoder", SMALL.groups), atol=1e-4
    )


def test_leads_go_in_and_come_out_by_name_and_einthoven_holds(codec) -> None:
    latent = codec.encode(torch.from_numpy(pulse_train(1)))
    strips = codec.decode(latent).numpy()[0]
    theirs = dict(zip(THEIR_LEADS, codec.leads(latent).numpy()[0]))
    for name in ("I", "II", "V1", "V6"):
        np.testing.assert_array_equal(strips[LEADS.index(name)], theirs[name])
    one, two, three = strips[:3]
    np.testing.assert_allclose(three, two - one, atol=1e-5)
    swapped = pulse_train(1)
    swapped[:, [4, 5]] = swapped[:, [5, 4]]
    assert not torch.equal(codec.encode(torch.from_numpy(swapped)), latent), "aVL and aVF are told apart"


def test_decoding_twice_gives_the_same_and_leaves_the_latent_alone(codec) -> None:
    latent = codec.encode(torch.from_numpy(pulse_train(1)))
    kept = latent.clone()
    first = codec.decode(latent)
    assert torch.equal(codec.decode(latent), first)
    assert torch.equal(latent, kept)


def test_the_norm_in_the_attention_block_changes_nothing(codec) -> None:
    strips = torch.from_numpy(pulse_train(1))
    before = codec.encode(strips)
    codec.encoder[13].groupnorm.weight.fill_(99.0)
    assert torch.equal(codec.encode(strips), before)
    codec.encoder[13].attention.in_proj.weight.mul_(2.0)
    assert not torch.equal(codec.encode(strips), before)


def test_measured_latents_have_mean_0_and_sd_1_and_decode_to_the_same_strips(codec) -> None:
    strips = torch.from_numpy(pulse_train(6))
    raw = codec.encode(strips)
    decoded = codec.decode(raw)
    codec.measure_latents(strips)
    latent = codec.encode(strips)
    np.testing.assert_allclose(latent.mean((0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(latent.std((0, 2)), 1, atol=1e-3)
    assert not np.allclose(raw.std((0, 2)), 1, atol=0.05)
    np.testing.assert_allclose(codec.decode(latent), decoded, atol=1e-4)


def test_a_sample_from_the_posterior_differs_and_comes_again_with_its_seed(codec) -> None:
    strips = torch.from_numpy(pulse_train(1))
    first, again, mean = (
        codec.encode(strips, rng=rng)
        for rng in (torch.Generator().manual_seed(1), torch.Generator().manual_seed(1), None)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, mean)


def test_other_shapes_are_refused(codec) -> None:
    with pytest.raises(ValueError, match="to_model_grid"):
        codec.encode(torch.zeros(1, 7, 1024))
    with pytest.raises(ValueError, match="batch axis"):
        codec.decode(torch.zeros(4, 128))


def test_eight_leads_are_twelve_and_a_missing_lead_is_not_read(codec) -> None:
    eight = torch.from_numpy(independent_from_leads(pulse_train(1)))
    latent = codec.encode(expand_leads(eight))
    torch.testing.assert_close(codec.encode(eight), latent)
    mask = torch.ones(1, 8, dtype=torch.bool)
    torch.testing.assert_close(codec.encode(eight, mask), latent)
    mask[0, 3] = False
    lost = eight.clone()
    lost[0, 3] = float("nan")
    flat = eight.clone()
    flat[0, 3] = 0.0
    torch.testing.assert_close(codec.encode(lost, mask), codec.encode(flat))
    assert codec.latent_shape == latent.shape[1:]
