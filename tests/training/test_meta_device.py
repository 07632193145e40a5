"""Networks, losses and samplers on torch's meta device, which refuses a tensor that was left on another one."""

import pytest
import torch

from ecg_gym.risk.classifier import FindingsConfig, FindingsNet
from ecg_gym.world_model.conditioning import FeatureScale
from ecg_gym.world_model.denoiser import DenoiserConfig
from ecg_gym.world_model.diffusion import SAMPLERS, sample
from ecg_gym.world_model.forecaster import DenoiserInputs, Forecaster
from ecg_gym.world_model.interval_model import IntervalModel, PrognosisConfig
from ecg_gym.world_model.vae import VAE, VAEConfig
from training.train_codec import FINE, VAETrainer
from training.train_denoiser import Objective, WorldModelTrainer
from training.train_findings import FindingsTrainer
from training.train_interval_model import IntervalModelTrainer
from training.train_interval_model import Objective as IntervalObjective

B, F = 6, 10
META = torch.device("meta")


def empty(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device=META)


def forecaster():
    names = tuple(f"f{i}" for i in range(F))
    scale = FeatureScale(names, [0.0] * F, [1.0] * F)
    return Forecaster(DenoiserConfig(F, width=16, blocks=2, condition_width=8), scale).to(META)


def known():
    return {"before": empty(B, 4, 128), "condition": empty(B, F), "prior": empty(B, 4, 128), "strength": empty(B)}


def test_the_loss_of_the_interval_model():
    net = IntervalModel(PrognosisConfig(F, 16, 1, 2, 0.1, findings=8, pressure=True)).to(META)
    batch = {"condition": empty(B, F), "base": empty(B, 8), "target": empty(B, 8), "signs": empty(B),
             "survived": empty(B), "was": empty(B, 17), "findings": empty(B, 17),
             "cuff": empty(B), "next_cuff": empty(B)}  # fmt: skip
    loss, parts = IntervalModelTrainer(net, IntervalObjective()).loss(batch, None)
    assert loss.device == META
    assert {"intervals", "signs", "death", "findings", "judgement", "pressure"} <= set(parts)
    loss.backward()


def test_the_loss_of_the_denoiser():
    trainer = WorldModelTrainer(forecaster(), Objective())
    batch = {**known(), "after": empty(B, 4, 128), "has_prior": empty(B, dtype=torch.bool)}
    loss, _ = trainer.loss(batch, None)
    assert loss.device == META
    loss.backward()


def test_the_loss_of_the_codec():
    trainer = VAETrainer(VAE(VAEConfig(width=16, fine_width=8, dilations=(1,), latent_channels=16)).to(META), FINE)
    strips = {name: empty(B, 8, 1024) for name in ("input", "target")}
    loss, _ = trainer.loss({**strips, "mask": empty(B, 8), "peaks": empty(B, 40, dtype=torch.int64)}, None)
    assert loss.device == META
    loss.backward()


def test_the_loss_of_the_findings():
    trainer = FindingsTrainer(FindingsNet(FindingsConfig(width=8, blocks=1)).to(META))
    loss, _ = trainer.loss({"input": empty(B, 8, 1024), "findings": empty(B, 17)}, None)
    assert loss.device == META
    loss.backward()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler(sampler):
    network, there = forecaster(), DenoiserInputs(**known())
    estimate = network.estimator(there)
    with torch.no_grad():
        noise, levels = empty(B, 4, 128), [network.schedule.n, 100, 0] if sampler == "student" else None
        latent = sample(estimate, noise, network.schedule, sampler, 3, fresh=lambda: empty(B, 4, 128), taus=levels)
    assert latent.device == META
