"""The denoiser and the projection: shapes, what they must ignore, and that a condition can be followed at all."""

import pytest
import torch

from ecg_gym.world_model.anchor import Projection, ProjectionConfig, alignment_loss
from ecg_gym.world_model.denoiser import Denoiser, DenoiserConfig
from ecg_gym.world_model.diffusion import add_noise, linear_schedule, sample

torch.set_num_threads(1)
SCHEDULE = linear_schedule()
SMALL = DenoiserConfig(n_features=3, width=32, blocks=2, condition_width=16, kernel=3)


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    network = Denoiser(SMALL, SCHEDULE)
    for parameter in network.parameters():  # the zero-initialised layers too, so that nothing is ignored by accident
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval()


def inputs(b=3):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(3, b, 4, 128, generator=generator)
    tau = torch.randint(1, 1001, (b,), generator=generator)
    return [latents[0], tau, latents[1], latents[2], torch.randn(b, 3, generator=generator)]


def test_it_returns_a_clean_latent(denoiser):
    z0hat = denoiser(*inputs())
    assert z0hat.shape == (3, 4, 128)
    assert torch.isfinite(z0hat).all()


@pytest.mark.parametrize("which", range(5))
def test_it_listens_to_every_input(denoiser, which):
    value, changed = inputs(), inputs()
    changed[which] = 1 + value[which] // 2 if which == 1 else value[which] + 1.0
    assert not torch.allclose(denoiser(*value), denoiser(*changed), atol=1e-4)


def test_rows_do_not_see_each_other(denoiser):
    value = inputs(4)
    alone = [denoiser(*[x[i : i + 1] for x in value]) for i in range(4)]
    torch.testing.assert_close(denoiser(*value), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_fresh_network_passes_a_clean_latent_through():
    """At tau = 1 hardly any noise is left, and the untrained network already returns what it sees."""
    torch.manual_seed(0)
    z, _, before, anchor, condition = inputs()
    torch.testing.assert_close(
        Denoiser(SMALL, SCHEDULE)(z, torch.ones(3, dtype=torch.long), before, anchor, condition), z, rtol=0, atol=5e-3
    )


def test_the_default_network_fits_in_its_share_of_the_package():
    network = Denoiser(DenoiserConfig(n_features=220), SCHEDULE)
    megabytes = 2 * sum(p.numel() for p in network.parameters()) / 1e6
    assert 4 < megabytes < 6.5  # float16


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_the_projection_is_silent_where_the_prior_abstains(kind):
    torch.manual_seed(0)
    projection = Projection(ProjectionConfig(kind=kind))
    anchor = projection(torch.randn(2, 1024), torch.tensor([True, False]))
    assert anchor.shape == (2, 4, 128)
    assert anchor[0].abs().sum() > 0
    assert anchor[1].abs().sum() == 0


def test_alignment_looks_only_at_rows_with_an_anchor():
    anchor, z0 = torch.zeros(2, 4, 128), torch.ones(2, 4, 128)
    assert alignment_loss(anchor, z0, torch.tensor([True, False])).item() == pytest.approx(1)
    assert alignment_loss(anchor, z0, torch.tensor([False, False])).item() == 0


def test_an_unknown_projection_is_refused():
    with pytest.raises(ValueError, match="projection is 'linear'; expected"):
        Projection(ProjectionConfig(kind="linear"))


@pytest.mark.slow
def test_it_learns_to_follow_a_condition():
    """A wave whose phase is asked for through the condition, beside one copied from the pre-dose latent."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = Denoiser(DenoiserConfig(n_features=1, width=64, blocks=2, condition_width=32), SCHEDULE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    column = torch.arange(128) / 8

    def draw(b):
        request = torch.rand(b, 1, generator=generator) * 2 - 1
        before = torch.sin(column + 6 * torch.rand(b, 1, generator=generator))
        wave = torch.sin(column + 2 * request)
        own = 0.3 * torch.randn(b, 1, generator=generator)
        z0 = torch.stack([wave, before, own.expand(b, 128), 0 * wave], dim=1)
        return z0, before[:, None] * torch.tensor([0.0, 1, 0, 0])[:, None], request

    nothing = torch.zeros(32, 4, 128)
    for _ in range(600):
        z0, before, request = draw(32)
        tau = torch.randint(1, 1001, (32,), generator=generator)
        z = add_noise(z0, torch.randn(z0.shape, generator=generator), tau, SCHEDULE)
        loss = (network(z, tau, before, nothing, request) - z0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    z0, before, request = draw(64)
    nothing = nothing.repeat(2, 1, 1)
    with torch.no_grad():
        samples = sample(
            lambda z, tau: network(z, tau, before, nothing, request),
            torch.randn(z0.shape, generator=generator), SCHEDULE, "dpm++", 10,
        )  # fmt: skip
    assert (samples[:, 0] - z0[:, 0]).square().mean() < 0.1 * z0[:, 0].var()  # what the condition says
    assert (samples[:, 1] - z0[:, 1]).square().mean() < 0.1 * z0[:, 1].var()  # what the pre-dose latent says
    level = samples[:, 2].mean(dim=1)  # what nobody says is drawn anew for each row
    assert 0.15 < level.std() < 0.45
