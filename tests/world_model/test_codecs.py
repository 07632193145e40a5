"""A codec is loaded as what it says it is, and both kinds do the same things."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import pulse_train

from ecg_gym import checkpoint
from ecg_gym.world_model.codecs import load_codec
from ecg_gym.world_model.diffusets_vae import KIND, DiffuSETSConfig, DiffuSETSVAE
from ecg_gym.world_model.vae import VAE


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    codec = DiffuSETSVAE(DiffuSETSConfig(widths=(8, 12, 16), groups=4))
    path = tmp_path / "imported.safetensors"
    checkpoint.save(path, KIND, codec.state_dict(), asdict(codec.config), data={}, metrics={}, half=False)
    return path


@torch.no_grad()
def test_both_kinds_encode_and_decode_strips_of_eight_or_twelve_leads(imported) -> None:
    strips = torch.from_numpy(pulse_train(2))
    for codec in (load_codec(), load_codec(imported)):
        latent = codec.encode(strips, torch.ones(2, 8, dtype=torch.bool))
        assert latent.shape == (2, *codec.latent_shape)
        decoded = codec.decode(latent).numpy()
        assert decoded.shape == (2, 12, 1024)
        np.testing.assert_allclose(decoded[:, 2], decoded[:, 1] - decoded[:, 0], atol=1e-4)
    assert isinstance(load_codec(), VAE)
    assert isinstance(load_codec(imported), DiffuSETSVAE)


def test_a_file_that_is_no_codec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, "other", {"a": torch.zeros(1)}, {}, data={}, metrics={})
    with pytest.raises(ValueError, match="expected 'vae'"):
        load_codec(path)
