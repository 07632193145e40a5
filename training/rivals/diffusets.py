"""DiffuSETS re-trained (arXiv 2501.05932): a U-Net on beats that hears a sentence, age, sex and rate.

The original has no strip before; ``sees_before`` adds it as channels, which is the variant. Both predict the noise on
its linear schedule of 1,000 steps, and are drawn as our denoiser is (DPM-Solver++, 10 steps).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.world_model.conditioning import MEASURED, OBSERVED
from ecg_gym.world_model.diffusion import add_noise, linear_schedule, sample, to_sample
from training.loop import Batch
from training.rivals.adversary import Parts, Rival
from training.rivals.condition import TEXT, Condition, fact_names
from training.rivals.layers import Block, Shape

FREQUENCIES = 32
NUMBERS = (  # that stand beside the sentence; target intervals are known only in the column with our forecast
    "person.age_years", "person.female", "measured.hr_bpm",
    *[f"asked.{name}" for name in OBSERVED], *[f"known.asked.{name}" for name in MEASURED],
)  # fmt: skip


class UNet(nn.Module):
    """The noise in beats ``z (B, C, columns)`` at noise level ``tau (B,)``; three sizes: 1/2, 1/4 and 1/8."""

    def __init__(self, shape: Shape, sees_before: bool, numbers: int) -> None:
        super().__init__()
        width, vector = shape.width, 2 * shape.condition
        channels = shape.channels * (2 if sees_before else 1)
        self.sees_before = sees_before
        self.text = nn.Sequential(nn.Linear(TEXT + numbers, vector), nn.SiLU(), nn.Linear(vector, vector))
        self.time = nn.Linear(2 * FREQUENCIES, vector)
        self.enter = nn.Conv1d(channels, width, 4, stride=2, padding=1)
        self.down = nn.ModuleList([nn.Conv1d(width, width, 4, stride=2, padding=1) for _ in range(2)])
        self.left = nn.ModuleList([Block(width, vector) for _ in range(3)])
        self.middle = Block(width, vector)
        self.right = nn.ModuleList([Block(width, vector) for _ in range(3)])
        self.join = nn.ModuleList([nn.Conv1d(2 * width, width, 1) for _ in range(3)])
        self.leave = nn.ConvTranspose1d(width, shape.channels, 4, stride=2, padding=1)
        self.skip = nn.Conv1d(channels, shape.channels, 1)

    def forward(self, z: Tensor, tau: Tensor, condition: Condition, numbers: Tensor) -> Tensor:
        """The noise ``(B, C, columns)``; ``numbers (B, n)`` stand beside the text."""
        rates = torch.exp(-torch.arange(FREQUENCIES, device=z.device) * (9.21 / FREQUENCIES))  # 1 down to 1e-4
        angle = tau.to(z.dtype)[:, None] * rates
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=1))
        vector = functional.silu(time + self.text(torch.cat([condition.text, numbers], dim=1)))
        inputs = torch.cat([z, condition.before], dim=1) if self.sees_before else z
        x, skips = self.enter(inputs), []
        for i, block in enumerate(self.left):
            x = block(self.down[i - 1](x) if i else x, vector)
            skips.append(x)
        x = self.middle(x, vector)
        for block, join in zip(self.right, self.join):
            beside = skips.pop()
            x = functional.interpolate(x, size=beside.shape[2]) if x.shape[2] != beside.shape[2] else x
            x = block(join(torch.cat([x, beside], dim=1)), vector)
        return self.leave(functional.silu(x)) + self.skip(inputs)


class DiffuSETS(Rival):
    """The diffusion; its sentence is one of patient and drugs, hashed, so that it runs without a language model."""

    sees_before = False

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        names = fact_names()
        whole = shape.facts == len(names)  # else a toy, all of whose numbers stand beside the sentence
        self.columns = [names.index(name) for name in NUMBERS] if whole else list(range(shape.facts))
        self.network = UNet(shape, self.sees_before, len(self.columns))
        self.schedule, self.form = linear_schedule(), shape.form
        self.noise_size = shape.channels * shape.columns

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Parts]:
        """Squared error of the noise at a random level per row."""
        condition, z0 = Condition.of(batch), batch["after"]
        tau = torch.randint(1, self.schedule.n + 1, (len(z0),), generator=rng, device=z0.device)
        noise = torch.randn(z0.shape, generator=rng, device=z0.device)
        error = self._noise_in(add_noise(z0, noise, tau, self.schedule), tau, condition) - noise
        return error.square().mean(), {"noise": error.square().mean().detach()}

    def draw(self, condition: Condition, noise: Tensor) -> Tensor:
        """A strip per row in 10 steps of DPM-Solver++."""

        def model(z: Tensor, tau: Tensor) -> Tensor:
            return to_sample(self._noise_in(z, tau, condition), z, tau, self.schedule, "epsilon")

        return sample(model, noise.unflatten(1, self.form), self.schedule)

    def _noise_in(self, z: Tensor, tau: Tensor, condition: Condition) -> Tensor:
        return self.network(z, tau, condition, condition.facts[:, self.columns])


class DiffuSETSBefore(DiffuSETS):
    """The variant that also sees the strip before."""

    sees_before = True
