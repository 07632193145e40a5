"""The samplers against an independent implementation and a Gaussian with an exact posterior; what weightings do."""

import math

import numpy as np
import pytest
import torch

from ecg_gym.world_model import diffusion
from ecg_gym.world_model.diffusion import (
    add_noise,
    denoise,
    guided,
    linear_schedule,
    prior_weight,
    sample,
    schedule_from_betas,
    time_grid,
    to_sample,
    world_model_loss,
)

torch.set_num_threads(1)
SCHEDULE = linear_schedule()


@pytest.fixture
def normal():
    generator = torch.Generator().manual_seed(7)
    return lambda *shape, dtype=torch.float64: torch.randn(*shape, generator=generator, dtype=dtype)


def gaussian_world(mean, sd, schedule=SCHEDULE):
    """The exact E[z0 | z] when z0 is N(mean, sd^2): a model that nobody trained."""

    def model(z, tau):
        alpha_bar = schedule.at(tau, z)
        gain = sd**2 * alpha_bar.sqrt() / (alpha_bar * sd**2 + 1 - alpha_bar)
        return mean + gain * (z - alpha_bar.sqrt() * mean)

    return model


def bent(z, tau):
    """A deterministic, non-linear stand-in for a network: any difference between two samplers shows."""
    return torch.tanh(1.3 * z + 0.2) + 0.1 * torch.cos(tau.double()[:, None, None] / 100)


def independent(name, **options):
    diffusers = pytest.importorskip("diffusers", reason="pip install 'ecg-gym[test]' to compare")
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear", "prediction_type": "sample"}
    return getattr(diffusers, name)(**(betas | options))


def run_independent(scheduler, noise, steps, **step_options):
    scheduler.set_timesteps(steps)
    z = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        tau = torch.full((len(z),), round(float(t)) + 1)
        z = scheduler.step(bent(scheduler.scale_model_input(z, t), tau), t, z, **step_options).prev_sample
    return z


def test_ddim_equals_diffusers(normal):
    noise = normal(3, 4, 16)
    theirs = run_independent(
        independent("DDIMScheduler", clip_sample=False, timestep_spacing="trailing"), noise.clone(), 10
    )
    *_, ours = denoise(bent, noise, SCHEDULE, list(range(1000, -1, -100)))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 5, 10, 25])
def test_dpm_solver_equals_diffusers(normal, steps):
    noise = normal(3, 4, 16)
    scheduler = independent(
        "DPMSolverMultistepScheduler", solver_order=2, timestep_spacing="linspace", final_sigmas_type="zero"
    )
    theirs = run_independent(scheduler, noise.clone(), steps)
    taus = [*(scheduler.timesteps + 1).tolist(), 0]
    *_, ours = denoise(bent, noise, SCHEDULE, taus, order="2m")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert np.abs(np.subtract(taus, time_grid(SCHEDULE, steps, rho=None))).max() <= 1  # halves


def test_heun_equals_diffusers(normal):
    noise = normal(3, 4, 16)
    scheduler = independent("HeunDiscreteScheduler", timestep_spacing="linspace")
    scheduler.set_timesteps(10)  # 999 = 9 x 111: whole time steps
    taus = [1000, *[round(float(t)) + 1 for t in scheduler.timesteps[1::2]], 0]
    start = noise / SCHEDULE.alpha_bar[-1].sqrt() / scheduler.init_noise_sigma  # both begin at the same x
    theirs = run_independent(scheduler, start, 10)
    *_, ours = denoise(bent, noise, SCHEDULE, taus, order="heun")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_ancestral_equals_diffusers(normal):
    noise = normal(3, 4, 16)
    schedule = linear_schedule(50, 0.001, 0.2)
    options = {"num_train_timesteps": 50, "beta_start": 0.001, "beta_end": 0.2, "clip_sample": False}
    theirs = run_independent(
        independent("DDPMScheduler", **options), noise.clone(), 50, generator=torch.Generator().manual_seed(3)
    )
    fresh = torch.Generator().manual_seed(3)
    ours = sample(
        bent,
        noise,
        schedule,
        "ddpm",
        50,
        fresh=lambda: torch.randn(noise.shape, generator=fresh, dtype=noise.dtype),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def speaking(model, prediction, schedule=SCHEDULE):
    """``model`` as a network whose layers say something else than z0: its answer, taken through their words."""

    def network(z, tau):
        alpha_bar = schedule.at(tau, z)
        noise = (z - alpha_bar.sqrt() * model(z, tau)) / (1 - alpha_bar).sqrt()
        output = diffusion.prediction_target(model(z, tau), noise, tau, schedule, prediction)
        return to_sample(output, z, tau, schedule, prediction)

    return network


@pytest.mark.parametrize("prediction", diffusion.PREDICTIONS)
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 500), ("ddim", 150), ("dpm++", 40), ("heun", 40)])
def test_samples_of_a_gaussian_world_have_its_moments(normal, sampler, steps, prediction):
    mean, sd = 1.7, 0.6
    noise = normal(20_000, 1)
    model = speaking(gaussian_world(mean, sd), prediction)
    samples = sample(model, noise, SCHEDULE, sampler, steps, fresh=lambda: normal(20_000, 1))
    # What N = 1000 steps leave of the signal, sqrt(alpha_bar_N) = 4 %, is missing from the starting noise.
    assert samples.mean().item() == pytest.approx(mean, abs=0.06)
    assert samples.std().item() == pytest.approx(sd, rel=0.02)


def test_second_order_samplers_converge_faster(normal):
    noise = normal(500, 1)
    model = gaussian_world(0.5, 0.5)
    exact = sample(model, noise, SCHEDULE, "ddim", taus=time_grid(SCHEDULE, 1000, rho=None))
    errors = {
        name: (sample(model, noise, SCHEDULE, name, steps) - exact).abs().mean().item()
        for name, steps in (("ddim", 40), ("dpm++", 40), ("heun", 20))
    }
    assert errors["dpm++"] < errors["ddim"] / 3
    assert errors["heun"] < errors["ddim"]


def test_alpha_bar_is_the_product_of_the_signal_kept():
    betas = torch.tensor([0.1, 0.5])
    torch.testing.assert_close(
        schedule_from_betas(betas).alpha_bar, torch.tensor([1, 0.9, 0.45], dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    assert float(diffusion.cosine_schedule().alpha_bar[-1]) < 1e-3
    assert (SCHEDULE.alpha_bar.diff() < 0).all()


def test_noising_keeps_unit_variance_and_the_three_predictions_agree(normal):
    z0, noise, tau = normal(4000, 4), normal(4000, 4), torch.arange(4000) % 1000 + 1
    z = add_noise(z0, noise, tau, SCHEDULE)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    for prediction in diffusion.PREDICTIONS:
        output = diffusion.prediction_target(z0, noise, tau, SCHEDULE, prediction)
        torch.testing.assert_close(to_sample(output, z, tau, SCHEDULE, prediction), z0)


def test_no_sampler_clips():
    noise = torch.zeros(2, 4, 8, dtype=torch.float64)
    far = torch.full((2, 4, 8), 9.0, dtype=torch.float64)
    for name in ("ddim", "dpm++", "heun"):
        torch.testing.assert_close(sample(lambda z, tau: far, noise, SCHEDULE, name, 5), far)


def test_a_rows_sample_depends_on_its_own_noise_only(normal):
    noise = normal(5, 4, 16)
    together = sample(bent, noise, SCHEDULE, "dpm++", 6)
    alone = sample(bent, noise[2:3], SCHEDULE, "dpm++", 6)
    torch.testing.assert_close(together[2:3], alone, rtol=1e-10, atol=1e-10)


def exact_walk(noise, mean, sd, tau=SCHEDULE.n):
    """Where the deterministic path from ``noise`` ends when z0 is N(mean, sd^2): the ODE solved by hand.

    In x = z / sqrt(alpha_bar) it is dx/dsigma = (x - E[z0 | x]) / sigma, so (x - mean) / sqrt(sd^2 + sigma^2) stays.
    """
    x = noise / SCHEDULE.alpha_bar[tau].sqrt()
    return mean + (x - mean) * sd / math.sqrt(sd**2 + SCHEDULE.sigma(tau) ** 2)


@pytest.mark.parametrize(
    ("sampler", "steps", "within"), [("ddim", 1000, 0.02), ("dpm++", 100, 0.005), ("heun", 60, 0.02)]
)
def test_deterministic_samplers_end_where_the_exact_path_ends(normal, sampler, steps, within):
    noise, mean, sd = normal(1000, 1), 0.7, 0.3
    samples = sample(gaussian_world(mean, sd), noise, SCHEDULE, sampler, steps)
    assert ((samples - exact_walk(noise, mean, sd)).std() / sd).item() < within


@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_guidance_is_exact_for_a_unit_gaussian(normal, gamma):
    mean, anchor = 0.8, -0.4
    model = guided(gaussian_world(mean, 1.0), torch.tensor(anchor).double(), gamma, SCHEDULE)
    half = normal(10_000, 1)
    noise = torch.cat([half, -half])
    samples = sample(model, noise, SCHEDULE, "dpm++", 100)
    expected = exact_walk(noise, (mean + 2 * gamma * anchor) / (1 + 2 * gamma), 1 / math.sqrt(1 + 2 * gamma))
    assert samples.mean().item() == pytest.approx(expected.mean().item(), abs=0.003)
    assert samples.std().item() == pytest.approx(expected.std().item(), rel=0.01)


def test_guidance_leaves_rows_without_an_anchor_alone(normal):
    noise, model = normal(2, 4, 8), gaussian_world(0.8, 1.0)
    mask = torch.tensor([0.0, 1.0])
    pulled = sample(guided(model, torch.zeros(2, 4, 8), 5.0, SCHEDULE, mask), noise, SCHEDULE, "ddim", 10)
    free = sample(model, noise, SCHEDULE, "ddim", 10)
    torch.testing.assert_close(pulled[0], free[0])
    assert pulled[1].abs().mean() < 0.5 * free[1].abs().mean()
    assert guided(model, torch.zeros(1), 0.0, SCHEDULE) is model


def spread_after_training(weighting, c=0.25, sd=0.5, mean=1.0):
    """Sample SD over true SD when the model is the exact minimiser of Eq. 30 and the anchor the conditional mean.

    Setting the derivative of Eq. 30 by z0hat to zero gives (E[z0 | z] + c omega anchor) / (1 + c omega).
    """
    exact = gaussian_world(mean, sd)

    def optimum(z, tau):
        pull = c * prior_weight(tau, SCHEDULE, weighting)[:, None]
        return (exact(z, tau) + pull * mean) / (1 + pull)

    generator = torch.Generator().manual_seed(0)

    def normal():
        return torch.randn(4000, 1, generator=generator, dtype=torch.float64)

    return {
        "ddpm": sample(optimum, normal(), SCHEDULE, "ddpm", 1000, fresh=normal).std().item() / sd,
        "dpm++": sample(optimum, normal(), SCHEDULE, "dpm++", 30).std().item() / sd,
    }


def test_the_papers_weighting_collapses_the_spread_and_early_keeps_it():
    paper, early, none = (spread_after_training(weighting) for weighting in ("paper", "early", "none"))
    assert max(paper.values()) < 0.1
    assert min(early.values()) > 0.8
    assert min(none.values()) > 0.97


def test_weights_are_what_they_say():
    tau = torch.tensor([1, 500, 1000])
    share = 1 - SCHEDULE.alpha_bar[tau]
    torch.testing.assert_close(prior_weight(tau, SCHEDULE, "early"), share)
    torch.testing.assert_close(prior_weight(tau, SCHEDULE, "paper"), 1 / (share + 1e-5))
    assert prior_weight(tau, SCHEDULE, "clipped", ceiling=5.0).max() == 5
    assert prior_weight(tau, SCHEDULE, "uniform").tolist() == [1, 1, 1]
    assert prior_weight(tau, SCHEDULE, "none").tolist() == [0, 0, 0]


def test_loss_is_equation_30(normal):
    z0, z0hat, anchor, weight = normal(3, 4, 8), normal(3, 4, 8), normal(3, 4, 8), torch.tensor([0.0, 1.0, 2.0])
    loss, parts = world_model_loss(z0, z0hat, anchor, weight, c=0.5)
    by_hand = np.mean([
        ((z0[i] - z0hat[i]) ** 2).mean() + 0.5 * weight[i] * ((z0hat[i] - anchor[i]) ** 2).mean() for i in range(3)
    ])  # fmt: skip
    assert loss.item() == pytest.approx(by_hand)
    assert loss.item() == pytest.approx((parts["data"] + 0.5 * parts["prior"]).item())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sample(bent, torch.zeros(1, 4, 8), SCHEDULE, "euler"), "sampler is 'euler'"),
        (lambda: sample(bent, torch.zeros(1, 4, 8), SCHEDULE, "ddim", 0), "steps is 0"),
        (lambda: sample(bent, torch.zeros(1, 4, 8), SCHEDULE, "dpm++", 5, eta=0.5), "second-order"),
        (lambda: sample(bent, torch.zeros(1, 4, 8), SCHEDULE, "ddim", 5, eta=2.0), "eta is 2"),
        (lambda: sample(bent, torch.zeros(1, 4, 8), SCHEDULE, "ddpm", 5), "fresh is None"),
        (lambda: sample(bent, torch.zeros(1, 4, 8), SCHEDULE, "student"), "taus is None"),
        (lambda: prior_weight(torch.tensor([1]), SCHEDULE, "late"), "weighting is 'late'"),
        (lambda: to_sample(*[torch.zeros(1, 4, 8)] * 2, torch.tensor([1]), SCHEDULE, "x0"), "prediction is 'x0'"),
    ],
)
def test_mistakes_are_explained(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "expected" in str(caught.value)


def test_time_grid_ends_clean_and_covers_the_schedule():
    assert time_grid(SCHEDULE, 1000, rho=None) == list(range(1000, -1, -1))
    for rho in (None, 3.0, 7.0):
        grid = time_grid(SCHEDULE, 4, rho)
        assert (grid[0], grid[-1], len(grid)) == (1000, 0, 5)
        assert sorted(grid, reverse=True) == grid
    assert time_grid(SCHEDULE, 1) == [1000, 0]


def test_ten_steps_keep_fine_structure_only_if_spaced_in_sigma(normal):
    noise, model = normal(4000, 1), gaussian_world(1.0, 0.1)
    kept = {
        rho: sample(model, noise, SCHEDULE, "dpm++", taus=time_grid(SCHEDULE, 10, rho)).std().item() / 0.1
        for rho in (None, 7.0)
    }
    assert kept[None] < 0.3
    assert kept[7.0] > 0.85
