"""TTS-CGAN: a transformer that generates time series under a condition, and one that judges them (arXiv 2206.13676)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.loop import Batch
from training.rivals.adversary import Adversary, Parts
from training.rivals.condition import Condition
from training.rivals.layers import TOKENS, Listener, Patches, Shape, Unpatch

Z = 64
REGRESSION = 0.1  # weight of the squared error of the numbers of the condition


class Transformer(nn.Module):
    """Tokens ``(B, width, TOKENS)`` behind one token of a vector; the vector's token comes back first."""

    def __init__(self, shape: Shape, blocks: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS + 1, shape.width))
        layer = nn.TransformerEncoderLayer(
            shape.width, heads, 2 * shape.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """The token of the vector ``(B, width)`` and the others ``(B, width, TOKENS)``."""
        x = torch.cat([vector[:, None], tokens.transpose(1, 2)], dim=1) + self.place
        x = self.layers(x)
        return x[:, 0], x[:, 1:].transpose(1, 2)


class TransformerGenerator(nn.Module):
    """Noise on every token of the strip before, and a token of the condition."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.listen = Listener(shape)
        self.token = nn.Linear(shape.condition + Z, shape.width)
        self.noise = nn.Linear(Z, shape.width * TOKENS)
        self.before = Patches(shape.channels, shape.columns, shape.width)
        self.transformer = Transformer(shape)
        self.head = Unpatch(shape.channels, shape.columns, shape.width)

    def forward(self, condition: Condition, noise: Tensor) -> Tensor:
        """Beats ``(B, C, columns)`` out of ``noise (B, Z)``."""
        token = self.token(torch.cat([functional.silu(self.listen(condition)), noise], dim=1))
        tokens = self.noise(noise).unflatten(1, (-1, TOKENS)) + self.before(condition.before)
        return self.head(self.transformer(tokens, token)[1])


class TransformerCritic(nn.Module):
    """A score under the condition ``(B,)``; ``regress`` says which numbers a strip seems to have as its condition."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.listen = Listener(shape)
        self.token = nn.Linear(shape.condition, shape.width)
        self.patch = Patches(2 * shape.channels, shape.columns, shape.width)
        self.transformer = Transformer(shape)
        self.score = nn.Linear(shape.width, 1)
        self.numbers = nn.Linear(shape.width, shape.facts)

    def pooled(self, strip: Tensor, condition: Condition, vector: Tensor) -> Tensor:
        """Features ``(B, width)`` of a strip beside the strip before, with a token ``vector (B, width)`` in front."""
        tokens = self.patch(torch.cat([strip, condition.before], dim=1))
        first, rest = self.transformer(tokens, vector)
        return first + rest.mean(dim=2)

    def forward(self, strip: Tensor, condition: Condition) -> Tensor:
        """The score ``(B,)`` of each strip."""
        vector = self.token(functional.silu(self.listen(condition)))
        return self.score(self.pooled(strip, condition, vector))[:, 0]

    def regress(self, strip: Tensor, condition: Condition) -> Tensor:
        """The numbers ``(B, facts)``, without having been told them."""
        nothing = torch.zeros(len(strip), self.token.out_features, device=strip.device)
        return self.numbers(self.pooled(strip, condition, nothing))


class TTSCGAN(Adversary):
    """The critic also regresses the numbers of the condition off real strips, where the original names a class."""

    critic: TransformerCritic
    noise_size = Z
    penalty_every = 16

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.generator, self.critic = TransformerGenerator(shape), TransformerCritic(shape)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Parts]:
        """As every GAN's, and the regression off real strips; off generated ones the generator hears it."""
        loss, parts = super().loss(batch, rng)
        condition = Condition.of(batch)
        error = (self.critic.regress(batch["after"], condition) - condition.facts).square().mean()
        return loss + REGRESSION * error, {**parts, "regression": error.detach()}
