"""DADM from its description: a denoiser that knows nothing, then a control branch for person and drug beside it.

Stage 1 learns the strips alone. Stage 2 leaves it as it is and learns a branch that begins at zero and listens to the
condition and the strip before, and attention to tokens of the electrophysiological prior (the intervals that population
pharmacology expects, one token each), through a gate that depends on the noise level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.world_model.diffusion import add_noise, linear_schedule, sample, to_sample
from training.loop import Batch
from training.rivals.adversary import Parts, Rival
from training.rivals.condition import EXPECTED, Condition
from training.rivals.layers import TOKENS, Block, Listener, Patches, Shape, Unpatch

FREQUENCIES = 32
BLOCKS = 3


class DADM(Rival):
    """Both stages; ``stage`` says which one ``loss`` trains."""

    stages = 2

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, vector = shape.width, shape.condition
        self.schedule, self.form, self.stage = linear_schedule(), shape.form, 1
        self.noise_size = shape.channels * shape.columns
        self.enter = Patches(shape.channels, shape.columns, width)
        self.place = nn.Parameter(0.02 * torch.randn(width, TOKENS))
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, vector), nn.SiLU(), nn.Linear(vector, vector))
        self.blocks = nn.ModuleList([Block(width, vector) for _ in range(BLOCKS)])
        self.head = Unpatch(shape.channels, shape.columns, width)
        self.control = Control(shape)

    def of_stage(self, stage: int) -> DADM:
        """The same network, ready to learn that stage: the weights of the other one stand still."""
        self.stage = stage
        for name, weight in self.named_parameters():
            weight.requires_grad_(name.startswith("control.") == (stage == 2))
        return self

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Parts]:
        """Squared error of v at a random noise level per row."""
        condition, z0 = Condition.of(batch), batch["after"]
        tau = torch.randint(1, self.schedule.n + 1, (len(z0),), generator=rng, device=z0.device)
        noise = torch.randn(z0.shape, generator=rng, device=z0.device)
        z = add_noise(z0, noise, tau, self.schedule)
        error = self._clean(z, tau, condition if self.stage == 2 else None) - z0
        weight = (1 / (1 - self.schedule.at(tau, z0))).clamp(max=5.0)
        return (weight * error.square()).mean(), {"beats": error.square().mean().detach()}

    def draw(self, condition: Condition, noise: Tensor) -> Tensor:
        """A strip per row, both stages together."""

        def model(z: Tensor, tau: Tensor) -> Tensor:
            return self._clean(z, tau, condition)

        return sample(model, noise.unflatten(1, self.form), self.schedule)

    def _clean(self, z: Tensor, tau: Tensor, condition: Condition | None) -> Tensor:
        """The clean beat behind ``z``; without a condition, what stage 1 makes of it."""
        rates = torch.exp(-torch.arange(FREQUENCIES, device=z.device) * (9.21 / FREQUENCIES))
        angle = tau.to(z.dtype)[:, None] * rates
        vector = functional.silu(self.time(torch.cat([angle.sin(), angle.cos()], dim=1)))
        x = self.enter(z) + self.place
        extra = None if condition is None else self.control(x, vector, condition)
        for i, block in enumerate(self.blocks):
            x = block(x, vector)
            if extra is not None:
                x = x + extra[i]
        return to_sample(self.head(functional.silu(x)), z, tau, self.schedule, "v")


class Control(nn.Module):
    """What stage 2 adds behind each block of stage 1, ``(BLOCKS, B, width, TOKENS)``; zero before it has learned."""

    def __init__(self, shape: Shape, heads: int = 4) -> None:
        super().__init__()
        width, vector = shape.width, shape.condition
        self.listen = Listener(shape)
        self.before = Patches(shape.channels, shape.columns, width)
        self.blocks = nn.ModuleList([Block(width, vector) for _ in range(BLOCKS)])
        self.leave = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(BLOCKS)])
        for head in self.leave:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        self.name = nn.Parameter(0.02 * torch.randn(len(EXPECTED), width))
        self.value = nn.Parameter(0.02 * torch.randn(len(EXPECTED), width))
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.gate = nn.Linear(vector, 1)

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Additions for tokens ``x (B, width, TOKENS)`` at the noise level of ``time (B, condition)``."""
        vector = functional.silu(time + self.listen(condition))
        expected = condition.facts[:, -len(EXPECTED) :, None]  # the last columns of the facts
        prior = self.name + expected * self.value
        y = x + self.before(condition.before)
        tokens = y.transpose(1, 2)
        context = self.attend(tokens, prior, prior, need_weights=False)[0].transpose(1, 2)
        y = y + torch.sigmoid(self.gate(time))[:, :, None] * context
        extra = []
        for block, leave in zip(self.blocks, self.leave):
            y = block(y, vector)
            extra.append(leave(functional.silu(y)))
        return torch.stack(extra)
