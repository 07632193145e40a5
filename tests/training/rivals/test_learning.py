"""Each rival learns toy pairs whose conditional law is known; a run that was killed goes on with the same losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ecg_gym.physiology.mcsharry import unit_waves
from training import loop
from training.evaluation.questions import fair_crps
from training.loop import LoopConfig
from training.rivals.adversary import Rival
from training.rivals.catalogue import DIFFUSION, NETWORKS, network
from training.rivals.condition import TEXT, Condition
from training.rivals.layers import Shape
from training.rivals.ode_gan import CENTRE_S, HEIGHT_MV, WIDTH_S, beat_of
from training.rivals.typical_beats import BEFORE_S, CHANNELS, COLUMNS, GRID_HZ, LEADS, UNIT_MV

PAIRS, FACTS, SD = 256, 8, 0.3
SHAPE = Shape(channels=2, columns=COLUMNS, facts=FACTS, width=24, condition=24)
WAVES = replace(SHAPE, channels=CHANNELS)  # for the rival that draws the waves of a beat
STEPS = {"wgan": 200, "tts-cgan": 200}  # the others need half as many
QUICK = ("stylegan", "dadm")  # a GAN and a diffusion; the others are slow tests
TOYS = [name for name in NETWORKS if name != "ode-gan"]  # so few steps of it against a critic are chaos: see below


def toy(shape: Shape, seed: int = 0, n: int = PAIRS) -> tuple[dict[str, Tensor], np.ndarray]:
    """Pairs whose beats have one height, normal about the first number of the condition with an SD of ``SD``."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    height = x + SD * rng.standard_normal(n)
    facts = np.zeros((n, FACTS))
    facts[:, 0] = x
    flat = torch.tensor(height, dtype=torch.float32)[:, None, None].repeat(1, 2, COLUMNS)
    tensors = {
        "before": torch.zeros(n, *shape.form),
        "facts": torch.tensor(facts, dtype=torch.float32),
        "text": torch.zeros(n, TEXT),
        "after": flat if shape == SHAPE else beats_of(height),
    }
    return tensors, height


def beats_of(height: np.ndarray) -> Tensor:
    """Beats whose R waves are 0.8 mV and 0.3 mV a unit of height."""
    n = len(height)
    wave = [torch.tensor(values).expand(n, LEADS, -1).clone() for values in (CENTRE_S, WIDTH_S, HEIGHT_MV)]
    wave[2][:, :, 2] += 0.3 * torch.tensor(height, dtype=torch.float32)[:, None]
    return torch.cat([beat_of(*wave) / UNIT_MV, torch.zeros(n, CHANNELS - LEADS, COLUMNS)], dim=1)


def height_of(beats: Tensor) -> np.ndarray:
    """The height of beats ``(..., C, 128)``, as they were made."""
    if beats.shape[-2] == SHAPE.channels:
        return beats.mean(dim=(-2, -1)).numpy()
    r_mv = UNIT_MV * beats[..., :LEADS, :].amax(dim=-1).mean(dim=-1)
    return ((r_mv - UNIT_MV * beats_of(np.zeros(1)).amax()) / 0.3).numpy()


def config(name: str, steps: int) -> LoopConfig:
    """As rivals are trained, faster."""
    gan = name not in DIFFUSION
    return LoopConfig(
        steps=steps, learning_rate=3e-3, warmup=5, weight_decay=0.0, betas=(0.0, 0.9) if gan else (0.9, 0.99),
        clip=10.0 if gan else 1.0, ema_decay=0.9, save_every=4,
    )  # fmt: skip


def scores(rival: Rival, unseen: dict[str, Tensor], height: np.ndarray) -> tuple[float, float, float]:
    """CRPS of the heights that a rival draws, of the marginal law, and of what it draws for somebody else."""
    draws = rival.eval().samples(Condition.of(unseen), 8, torch.Generator().manual_seed(0))
    predicted = height_of(draws)
    marginal = np.random.default_rng(2).normal(0, np.hypot(1, SD), size=(200, 64))
    return tuple(float(fair_crps(rows, height).mean()) for rows in (predicted.T, marginal, predicted[::-1].T))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TOYS]
)
def test_a_few_steps_beat_the_marginal(name: str) -> None:
    rival = network(name, SHAPE)
    tensors, _ = toy(SHAPE)
    for stage in range(1, rival.stages + 1):
        state = loop.start(rival.of_stage(stage), config(name, STEPS.get(name, 100) // rival.stages))
        for _ in loop.train(state, loop.uniform_rows(tensors, 32)):
            pass
        rival.load_state_dict(state.ema.state_dict())
    own, trivial, turned = scores(rival, *toy(SHAPE, 1, 64))
    assert own < 0.9 * trivial
    assert turned > own, "it listens: conditions of others make it worse"


def test_the_wave_equation_learns_heights_from_the_condition() -> None:
    """By the beat itself: whether 200 steps against a critic learn it depends on the processor."""
    rival = network("ode-gan", WAVES)
    tensors, _ = toy(WAVES)
    optimizer, rng = torch.optim.Adam(rival.generator.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(60):
        rows = torch.randint(PAIRS, (32,), generator=rng)
        noise = torch.randn(32, rival.noise_size, generator=rng)
        beats = rival.generator(Condition.of({name: values[rows] for name, values in tensors.items()}), noise)
        optimizer.zero_grad()
        (beats - tensors["after"][rows]).square().mean().backward()
        optimizer.step()
    own, trivial, turned = scores(rival, *toy(WAVES, 1, 64))
    assert own < 0.9 * trivial
    assert turned > 2 * own


def test_the_solution_in_tensors_is_that_of_the_equation() -> None:
    rng = np.random.default_rng(0)
    centre = np.array(CENTRE_S) + rng.normal(0, 0.01, (3, len(CENTRE_S)))
    width = np.array(WIDTH_S) * rng.uniform(0.8, 1.2, (3, len(WIDTH_S)))
    exact = unit_waves(
        centre, width, np.full((3, 4), 2.0), samples=COLUMNS, rate_hz=GRID_HZ, first_s=BEFORE_S, relaxation_per_s=0.0
    )
    height = rng.normal(size=centre.shape)
    wave = [torch.tensor(part[:, None], dtype=torch.float64) for part in (centre, width, height)]
    np.testing.assert_allclose(beat_of(*wave)[:, 0].numpy(), np.einsum("bw,bwn->bn", height, exact), atol=1e-4)
