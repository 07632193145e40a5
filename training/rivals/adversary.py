"""``Rival`` and ``Adversary``: what the frame asks of every rival, and the step that all the GANs share.

Generator and critic learn in one optimiser step: each critic score of a generated strip is computed twice, once without
a gradient to the generator, once without a gradient to the critic's weights. The generator learns in one of
``critic_steps`` steps; which one, a counter among the weights says, so that a run that was killed goes on the same.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.loop import Batch
from training.rivals.condition import Condition

Parts = dict[str, Tensor]


class Rival(nn.Module):
    """A generator of strips. ``loss`` is for ``training.loop``; ``draw`` is what it is judged by."""

    stages = 1  # of training, each with its share of the budget
    noise_size: int  # standard normal numbers that one draw takes

    @abstractmethod
    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Parts]:
        """The scalar to minimise, and its parts."""

    @abstractmethod
    def draw(self, condition: Condition, noise: Tensor) -> Tensor:
        """One strip per row out of its own ``noise (B, noise_size)``."""

    def of_stage(self, stage: int) -> Rival:
        """The same network, ready to learn that stage of ``stages``, counted from 1."""
        return self

    @torch.inference_mode()
    def samples(self, condition: Condition, k: int, rng: torch.Generator) -> Tensor:
        """``k`` strips of every row ``(B, k, ...)``."""
        noise = torch.randn(len(condition) * k, self.noise_size, generator=rng)
        return self.draw(condition.repeat(k), noise).unflatten(0, (len(condition), k))


class Adversary(Rival):
    """A GAN: subclasses bring ``generator(condition, noise)``, ``critic(strip, condition)`` and their losses."""

    turn: Tensor
    generator: nn.Module
    critic: nn.Module
    critic_steps = 1  # steps of the critic for one of the generator
    penalty_every = 1  # steps between two penalties (lazy regularisation: the penalty is then so much larger)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def draw(self, condition: Condition, noise: Tensor) -> Tensor:
        """One strip per row, by the generator."""
        return self.generator(condition, noise)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Parts]:
        """Of critic and, in its turn, generator."""
        condition, real = Condition.of(batch), batch["after"]
        noise = torch.randn(len(real), self.noise_size, generator=rng, device=real.device)
        turn = int(self.turn)
        self.turn += 1
        learns = turn % self.critic_steps == self.critic_steps - 1
        with torch.set_grad_enabled(learns):
            fake = self.draw(condition, noise)
        apart = self.critic_loss(self.critic(real, condition), self.critic(fake.detach(), condition))
        penalty = torch.zeros(())
        if turn % self.penalty_every == 0:
            penalty = self.penalty_every * self.penalty(real, fake.detach(), condition, rng)
        loss, parts = apart + penalty, {"critic": apart.detach(), "penalty": penalty.detach()}
        parts["generator"] = torch.zeros(())
        if learns:
            still = {name: value.detach() for name, value in self.critic.named_parameters()}
            score = functional_call(self.critic, still, (fake, condition))
            of_generator = self.generator_loss(score)
            loss, parts["generator"] = loss + of_generator, of_generator.detach()
        return loss, parts

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logistic (Goodfellow 2014), unless a rival says otherwise; scores ``(B,)``."""
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Logistic, non-saturating."""
        return functional.softplus(-fake).mean()

    def penalty(self, real: Tensor, fake: Tensor, condition: Condition, rng: torch.Generator) -> Tensor:
        """R1 (Mescheder 2018): half the squared slope of the critic at real strips."""
        return 0.5 * slope(self.critic, real, condition).square().mean()


def slope(critic: nn.Module, strip: Tensor, condition: Condition) -> Tensor:
    """The length ``(B,)`` of the critic's gradient at ``strip``, to be differentiated once more."""
    at = strip.detach().requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):  # the only attention on a CPU that can be differentiated twice
        gradient = torch.autograd.grad(critic(at, condition).sum(), at, create_graph=True)[0]
    return gradient.flatten(1).norm(dim=1)
