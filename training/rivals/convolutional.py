"""WGAN-GP, a CECG-GAN-like GAN and StyleGAN-1D: their generators grow tokens from 4 to 32 by convolutions."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.rivals.adversary import Adversary, slope
from training.rivals.condition import Condition
from training.rivals.layers import TOKENS, Attention, Block, Critic, Listener, Patches, Shape, Unpatch

Z = 64
FIRST = 4  # tokens that a generator begins with
GRADIENT_PENALTY = 10.0  # Gulrajani 2017
PENALTY_SHARE = 4  # one row of a batch in so many has the penalty: it is differentiated twice


class ConvGenerator(nn.Module):
    """Noise and condition to ``FIRST`` tokens, doubled and convolved up to 32, where the strip before joins them."""

    def __init__(self, shape: Shape, attention: bool = False) -> None:
        super().__init__()
        width = shape.width
        self.listen = Listener(shape)
        self.enter = nn.Linear(Z + shape.condition, width * FIRST)
        self.vector = nn.Linear(Z + shape.condition, shape.condition)
        self.grow = nn.ModuleList([Block(width, shape.condition) for _ in range(3)])
        self.before = Patches(shape.channels, shape.columns, width)
        self.attend = Attention(width) if attention else None
        self.finish = nn.ModuleList([Block(width, shape.condition) for _ in range(2)])
        self.head = Unpatch(shape.channels, shape.columns, width)

    def forward(self, condition: Condition, noise: Tensor) -> Tensor:
        """Beats ``(B, C, columns)`` out of ``noise (B, Z)``."""
        joint = torch.cat([noise, functional.silu(self.listen(condition))], dim=1)
        vector = functional.silu(self.vector(joint))
        x = self.enter(joint).unflatten(1, (-1, FIRST))
        for block in self.grow:
            x = block(functional.interpolate(x, scale_factor=2.0), vector)
        x = x + self.before(condition.before)
        if self.attend is not None:
            x = self.attend(x)
        for block in self.finish:
            x = block(x, vector)
        return self.head(functional.silu(x))


class WGAN(Adversary):
    """Wasserstein GAN with gradient penalty (Gulrajani 2017, arXiv 1704.00028), three critic steps a generator step."""

    critic_steps = 3
    noise_size = Z

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.generator, self.critic = ConvGenerator(shape), Critic(shape)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The distance, and a little that keeps scores near 0."""
        return fake.mean() - real.mean() + 1e-3 * real.square().mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The score, to be raised."""
        return -fake.mean()

    def penalty(self, real: Tensor, fake: Tensor, condition: Condition, rng: torch.Generator) -> Tensor:
        """Of slopes that are not 1 between real and generated strips."""
        some = slice(0, max(1, len(real) // PENALTY_SHARE))
        share = torch.rand((len(real[some]), 1, 1), generator=rng, device=real.device)
        between = share * real[some] + (1 - share) * fake[some]
        return GRADIENT_PENALTY * (slope(self.critic, between, condition[some]) - 1).square().mean()


class CECGGAN(Adversary):
    """Convolutions and self-attention on both sides, hinge loss: rebuilt from an abstract, hence "CECG-GAN-like"."""

    noise_size = Z
    penalty_every = 4

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.generator = ConvGenerator(shape, attention=True)
        self.critic = Critic(shape, attention=True)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Hinge (Lim 2017)."""
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The score, to be raised."""
        return -fake.mean()


class StyleGAN(Adversary):
    """StyleGAN2 in one dimension (Karras 2020, arXiv 1912.04958): mapping, modulation, noise at every size, lazy R1."""

    penalty_every = 16

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.generator, self.critic = StyleGenerator(shape), Critic(shape)
        self.noise_size = Z + sum(self.generator.sizes)


class StyleGenerator(nn.Module):
    """A learned beginning, modulated by the style that a mapping makes of noise and condition."""

    def __init__(self, shape: Shape, layers: int = 4, style: int = 128) -> None:
        super().__init__()
        width = shape.width
        self.sizes = [2 * FIRST, 4 * FIRST, TOKENS, TOKENS]  # tokens of each modulated convolution
        self.listen = Listener(shape)
        widths = [Z + shape.condition, *[style] * layers]
        self.mapping = nn.Sequential(
            *[part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
        )
        self.start = nn.Parameter(torch.randn(width, FIRST))
        self.layers = nn.ModuleList([Modulated(width, width, style) for _ in self.sizes])
        self.strength = nn.Parameter(torch.full((len(self.sizes), width), 0.1))
        self.before = Patches(shape.channels, shape.columns, width)
        self.finish = Modulated(width, width, style)
        self.head = Unpatch(shape.channels, shape.columns, width)

    def forward(self, condition: Condition, noise: Tensor) -> Tensor:
        """Beats ``(B, C, columns)`` out of the noise of the style and a grain for every token."""
        z, *grains = noise.split([Z, *self.sizes], dim=1)
        style = self.mapping(torch.cat([z, self.listen(condition)], dim=1))
        x = self.start.expand(len(z), -1, -1)
        for layer, size, grain, strength in zip(self.layers, self.sizes, grains, self.strength):
            x = functional.interpolate(x, size=size) if x.shape[2] != size else x
            x = functional.leaky_relu(layer(x, style) + strength[:, None] * grain[:, None], 0.2)
        x = x + self.before(condition.before)
        return self.head(functional.leaky_relu(self.finish(x, style), 0.2) + x)


class Modulated(nn.Module):
    """A convolution whose weights a style scales per input channel, and which are then brought to unit length."""

    def __init__(self, inputs: int, outputs: int, style: int, kernel: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel) / (inputs * kernel) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs, 1))
        self.scale = nn.Linear(style, inputs)
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Tokens ``(B, outputs, n)`` of tokens ``(B, inputs, n)`` and ``style (B, style)``."""
        scale = self.scale(style)  # (B, inputs)
        length = torch.einsum("oik,bi->bo", self.weight.square(), scale.square())
        y = functional.conv1d(x * scale[:, :, None], self.weight, padding=self.weight.shape[2] // 2)
        return y * (length + 1e-8).rsqrt()[:, :, None] + self.bias
