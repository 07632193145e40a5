"""Forward noising, the loss of Eq. 30, and samplers that work with any ``model(z, tau) -> z0hat``.

Everything is a plain function of tensors ``(B, ...)``; ``tau`` counts noising steps, 0 is clean and ``N`` is noise.
Clean latents are standardised, never clipped: an ECG's R wave *is* the tail of the distribution.
Equation numbers are those of ECG-WM (arXiv 2605.17580, Appendix C).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Model = Callable[[Tensor, Tensor], Tensor]  # (z (B, ...), tau (B,) int64) -> z0hat (B, ...)
Noise = Callable[[], Tensor]  # -> fresh standard normal (B, ...); called once per stochastic step

PREDICTIONS = ("sample", "epsilon", "v")
WEIGHTINGS = ("early", "paper", "clipped", "uniform", "none")


@dataclass(frozen=True)
class Schedule:
    """How fast the signal drowns: ``alpha_bar[tau]`` is the share of its variance left after ``tau`` steps."""

    alpha_bar: Tensor  # (N + 1,) float64, falls from alpha_bar[0] = 1

    @property
    def n(self) -> int:
        """Number of noising steps N."""
        return len(self.alpha_bar) - 1

    def at(self, tau: Tensor, like: Tensor) -> Tensor:
        """``alpha_bar`` of each row, ``(B, 1, ...)``, shaped and typed to multiply ``like`` ``(B, ...)``."""
        values = self.alpha_bar.to(like.device)[tau].to(like.dtype)
        return values.reshape(-1, *[1] * (like.ndim - 1))

    def sigma(self, tau: int) -> float:
        """Noise-to-signal ratio sqrt((1 - alpha_bar) / alpha_bar) after ``tau`` steps."""
        alpha_bar = float(self.alpha_bar[tau])
        return math.sqrt((1 - alpha_bar) / alpha_bar)


def schedule_from_betas(betas: Tensor) -> Schedule:
    """The schedule of given variances ``betas`` ``(N,)``: alpha_bar is the product of 1 - beta (below Eq. 11)."""
    alpha_bar = torch.cumprod(1 - betas.double(), dim=0)
    return Schedule(torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar]))


def linear_schedule(n: int = 1000, first: float = 0.00085, last: float = 0.012) -> Schedule:
    """Variances that rise linearly, with the figures of DiffuSETS (the paper names none of its own)."""
    return schedule_from_betas(torch.linspace(first, last, n, dtype=torch.float64))


def cosine_schedule(n: int = 1000, offset: float = 0.008) -> Schedule:
    """Nichol and Dhariwal's squared cosine (arXiv 2102.09672, Eq. 17), each beta at most 0.999."""
    time = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    signal = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return schedule_from_betas((1 - signal[1:] / signal[:-1]).clamp(max=0.999))


def add_noise(z0: Tensor, noise: Tensor, tau: Tensor, schedule: Schedule) -> Tensor:
    """``z0`` after ``tau`` noising steps, sampled in one (Eq. 12)."""
    alpha_bar = schedule.at(tau, z0)
    return alpha_bar.sqrt() * z0 + (1 - alpha_bar).sqrt() * noise


def prediction_target(z0: Tensor, noise: Tensor, tau: Tensor, schedule: Schedule, prediction: str) -> Tensor:
    """What a network of this kind should say: ``z0``, the noise, or v = sqrt(ab) noise - sqrt(1 - ab) z0."""
    _check("prediction", prediction, PREDICTIONS)
    alpha_bar = schedule.at(tau, z0)
    if prediction == "sample":
        return z0
    return noise if prediction == "epsilon" else alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * z0


def to_sample(output: Tensor, z: Tensor, tau: Tensor, schedule: Schedule, prediction: str) -> Tensor:
    """The clean latent that a network's output stands for, given the noisy ``z`` it saw (Eq. 18 for epsilon)."""
    _check("prediction", prediction, PREDICTIONS)
    alpha_bar = schedule.at(tau, z)
    if prediction == "sample":
        return output
    if prediction == "epsilon":
        return (z - (1 - alpha_bar).sqrt() * output) / alpha_bar.sqrt()
    return alpha_bar.sqrt() * z - (1 - alpha_bar).sqrt() * output


def prior_weight(tau: Tensor, schedule: Schedule, weighting: str = "early", ceiling: float = 5.0) -> Tensor:
    """How strongly the physiological prior pulls at each ``tau``: omega ``(B,)`` float64.

    ``paper`` is Eq. 28, 1 / (1 - alpha_bar + 1e-5): it pins the last denoising steps to the anchor, so that samples
    of one patient hardly differ. ``early``, 1 - alpha_bar, lets the prior shape the outline and the data the detail,
    as the paper's section 4.4 describes it in words; it keeps the spread (see ``tests/test_diffusion.py``).
    ``clipped`` is ``paper`` with a ``ceiling``, ``uniform`` is 1, ``none`` is 0.
    """
    _check("weighting", weighting, WEIGHTINGS)
    noise_share = 1 - schedule.alpha_bar.to(tau.device)[tau]
    if weighting == "early":
        return noise_share
    if weighting in ("paper", "clipped"):
        weight = 1 / (noise_share + 1e-5)
        return weight.clamp(max=ceiling) if weighting == "clipped" else weight
    return torch.full_like(noise_share, 1.0 if weighting == "uniform" else 0.0)


def world_model_loss(
    z0: Tensor, z0hat: Tensor, anchor: Tensor, weight: Tensor, c: float = 0.25
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 30, ``|z0 - z0hat|^2 + c omega |z0hat - z_EPK|^2``, and its two terms by name.

    Mean over rows and elements for both terms, so ``c`` keeps its meaning whatever the latent's size. ``weight``
    ``(B,)`` is omega, already 0 in rows whose anchor abstains.
    """
    data = (z0 - z0hat).square().mean()
    pull = (z0hat - anchor).square().flatten(1).mean(1)
    prior = (weight.to(pull.dtype) * pull).mean()
    return data + c * prior, {"data": data.detach(), "prior": prior.detach()}


def time_grid(schedule: Schedule, steps: int, rho: float | None = 7.0) -> list[int]:
    """The ``tau`` a sampler visits: at most ``steps`` of them from N down to 1, then 0.

    Spaced evenly in sigma^(1/rho) (Karras 2022, arXiv 2206.00364, Eq. 5) and rounded; neighbours that meet are visited
    once. ``rho=None`` spaces them evenly in time as diffusers does, whose last jump then starts at a sigma of 0.36
    for 10 steps: fine structure (true SD 0.1) keeps 25 % of its spread, with rho = 7 it keeps 93 %.
    """
    if not 1 <= steps <= schedule.n:
        raise ValueError(
            f"steps is {steps}; expected 1 to {schedule.n}, the steps of the noise schedule; choose 10 for DPM-Solver++"
        )
    if rho is None or steps < 2:
        intervals = max(1, steps - (steps == schedule.n))  # with all N steps, the last one lands on tau = 1
        return [round(schedule.n - (schedule.n - 1) * i / intervals) for i in range(steps)] + [0]
    sigmas = ((1 - schedule.alpha_bar[1:]) / schedule.alpha_bar[1:]).sqrt()  # rising
    high, low = float(sigmas[-1]) ** (1 / rho), float(sigmas[0]) ** (1 / rho)
    targets = torch.linspace(high, low, steps, dtype=torch.float64) ** rho
    nearest = 1 + (sigmas[None, :] - targets[:, None]).abs().argmin(dim=1)
    return [*sorted(set(nearest.tolist()), reverse=True), 0]


def denoise(
    model: Model, noise: Tensor, schedule: Schedule, taus: list[int], order: str = "1", eta: float = 0.0,
    fresh: Noise | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """The latent after each denoising step, from pure ``noise`` ``(B, ...)`` down to a clean sample (the last one).

    Written in x = z / sqrt(alpha_bar), whose noise has standard deviation sigma. Every sampler here is then the one
    line ``x = decay x + (1 - decay) target`` with ``decay = sigma_next / sigma``, and differs only in its target:
    the estimate itself (order "1": DDIM, Euler), extrapolated from the step before (order "2m": DPM-Solver++(2M), Lu
    2022, arXiv 2211.01095), or averaged with the estimate at the far end (order "heun": Karras 2022, arXiv
    2206.00364). ``eta`` puts that share of the removed noise back as ``fresh`` noise: 1 is ancestral sampling, the
    posterior of Eqs. 13 to 17. The caller's loop may stop, look or record.
    """
    x = noise / schedule.at(torch.tensor(taus[:1]), noise).sqrt()
    before: tuple[Tensor, float] | None = None  # the previous estimate, and the log-sigma step that led away from it
    for tau, tau_next in itertools.pairwise(taus):
        sigma, sigma_next = schedule.sigma(tau), schedule.sigma(tau_next)
        noise_back = eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
        sigma_down = math.sqrt(sigma_next**2 - noise_back**2)
        estimate = target = _estimate(model, x, tau, schedule)
        decay = sigma_down / sigma
        if tau_next and order == "2m":
            step = -math.log(decay)
            if before is not None:
                last, last_step = before
                target = estimate + (estimate - last) * step / (2 * last_step)
            before = (estimate, step)
        elif tau_next and order == "heun":
            # The slope (x - estimate) / sigma at both ends, averaged; written as a target it weighs the far estimate
            # by 1 / decay, because there the same noise is seen from closer by.
            far = _estimate(model, decay * x + (1 - decay) * estimate, tau_next, schedule)
            target = estimate + (far - estimate) / (2 * decay)
        x = decay * x + (1 - decay) * target
        if noise_back and fresh is not None:
            x = x + noise_back * fresh()
        yield x * schedule.at(torch.tensor([tau_next]), x).sqrt()


@dataclass(frozen=True)
class Sampler:
    """How to walk from noise to a sample; see :func:`denoise` and :func:`time_grid`."""

    order: str  # "1", "2m" or "heun"
    eta: float  # share of the removed noise that is put back
    rho: float | None  # spacing of the time grid
    steps: int  # how many, if nobody says


SAMPLERS = {
    "ddpm": Sampler("1", 1.0, None, 1000),  # ancestral through every step, the paper's (Eq. 31)
    "ddim": Sampler("1", 0.0, 7.0, 50),
    "dpm++": Sampler("2m", 0.0, 7.0, 10),
    "heun": Sampler("heun", 0.0, 7.0, 6),  # two model calls a step
    "student": Sampler("1", 0.0, None, 4),  # distilled weights at noise levels of their own, see `student.py`
}


def sample(
    model: Model, noise: Tensor, schedule: Schedule, sampler: str = "dpm++", steps: int | None = None, *,
    eta: float | None = None, fresh: Noise | None = None, taus: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """Clean latents ``(B, ...)`` from ``noise`` ``(B, ...)``; ``None`` means the sampler's own choice.

    ``fresh`` is needed where noise goes back in (``ddpm``, or ``eta`` > 0) and hands out standard normals shaped like
    ``noise``: the caller owns the randomness. ``taus`` replaces the time grid; the student has no other.
    """
    _check("sampler", sampler, tuple(SAMPLERS))
    defaults = SAMPLERS[sampler]
    eta = defaults.eta if eta is None else eta
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected 0 (deterministic) to 1 (ancestral); leave it out for the usual one")
    if eta and defaults.order != "1":
        raise ValueError(f"eta is {eta} with {sampler}; expected 0 for second-order samplers; use sampler='ddim'")
    if eta and fresh is None:
        raise ValueError(
            f"fresh is None with eta {eta}; expected a source of noise; pass fresh=lambda: torch.randn(2, 4)"
        )
    if sampler == "student" and taus is None:
        raise ValueError(
            "taus is None with the student; expected the noise levels it was distilled for; pass "
            "taus=student.levels(4), or take WorldModel.load(sampler='student'), which does"
        )
    taus = time_grid(schedule, defaults.steps if steps is None else steps, defaults.rho) if taus is None else taus
    latent = noise
    for latent in denoise(model, noise, schedule, taus, defaults.order, eta, fresh):  # noqa: B007
        pass
    return latent


def guided(model: Model, anchor: Tensor, gamma: float, schedule: Schedule, mask: Tensor | None = None) -> Model:
    """``model`` tilted towards ``anchor`` by exp(-gamma |z0 - anchor|^2) at inference (Eqs. 4 and 8).

    The estimate moves to ``(z0hat + w anchor) / (1 + w)`` with ``w = 2 gamma (1 - alpha_bar)``. That is the exact
    posterior mean where the prior has unit variance, which standardised latents have on average; Eq. 8's explicit
    gradient step overshoots the anchor as soon as gamma > 1/2. ``mask`` ``(B,)`` is 0 in rows without an anchor.
    """
    if gamma == 0:
        return model

    def tilted(z: Tensor, tau: Tensor) -> Tensor:
        weight = 2 * gamma * (1 - schedule.at(tau, z))
        if mask is not None:
            weight = weight * mask.to(z).reshape(-1, *[1] * (z.ndim - 1))
        return (model(z, tau) + weight * anchor) / (1 + weight)

    return tilted


def _estimate(model: Model, x: Tensor, tau: int, schedule: Schedule) -> Tensor:
    """The model's clean latent for ``x`` = z / sqrt(alpha_bar) at noising step ``tau``."""
    taus = torch.full((len(x),), tau, dtype=torch.long, device=x.device)
    return model(x * schedule.at(taus, x).sqrt(), taus)


def _check(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{what} is {name!r}; expected one of {names}; check the spelling")
