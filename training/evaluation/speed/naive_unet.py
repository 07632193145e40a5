"""What a first attempt would run: a 1-D U-Net of the published size, asked one sample and one of 1,000 steps at a time.

Shaped like the denoiser of the latent ECG diffusion that ECG-WM borrows its codec from (DiffuSETS):
latent 4 x 128, six levels of up to 256 channels, convolutions of width 7, self-attention of 8 heads and attention to
one token of condition in every block, noise prediction. The weights are random, which speed does not notice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.world_model.vae import LATENT_LENGTH, PAPER_CHANNELS

CHANNELS = (16, 32, 64, 128, 256, 256)  # 12 million parameters; the published network has 14
KERNEL, HEADS, TOKEN = 7, 8, 1536


class PeerUNet(nn.Module):
    """``noise = peer(z, tau, token)`` for latents ``(B, 4, 128)``, levels ``(B,)`` and a token ``(B, 1536)``."""

    def __init__(self) -> None:
        super().__init__()
        widths = (CHANNELS[0], *CHANNELS)
        self.enter = nn.Conv1d(PAPER_CHANNELS, CHANNELS[0], KERNEL, padding=KERNEL // 2)
        self.down = nn.ModuleList([_Block(a, b) for a, b in zip(widths, CHANNELS)])
        self.middle = _Block(CHANNELS[-1], CHANNELS[-1])
        back = tuple(reversed(CHANNELS))
        self.up = nn.ModuleList([_Block(2 * a, b) for a, b in zip(back, (*back[1:], CHANNELS[0]))])
        self.leave = nn.Conv1d(CHANNELS[0], PAPER_CHANNELS, KERNEL, padding=KERNEL // 2)

    def forward(self, z: Tensor, tau: Tensor, token: Tensor) -> Tensor:
        """The noise in ``z``."""
        x, skips = self.enter(z), []
        for block in self.down:
            x = block(x, tau, token)
            skips.append(x)
            x = functional.avg_pool1d(x, 2)
        x = self.middle(x, tau, token)
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2)
            x = block(torch.cat([x, skips.pop()], dim=1), tau, token)
        return self.leave(x)


class _Block(nn.Module):
    """Two convolutions that hear the noise level, then attention within the strip and to the condition."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(64, width), nn.Mish(), nn.Linear(width, width))
        self.first = nn.Conv1d(channels, width, KERNEL, padding=KERNEL // 2)
        self.second = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.past = nn.Conv1d(channels, width, 1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, width) for _ in range(4)])
        self.within = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.across = nn.MultiheadAttention(width, HEADS, kdim=TOKEN, vdim=TOKEN, batch_first=True)

    def forward(self, x: Tensor, tau: Tensor, token: Tensor) -> Tensor:
        angle = tau[:, None] * torch.exp(-math.log(10_000) * torch.arange(32) / 32)
        level = self.level(torch.cat([angle.sin(), angle.cos()], dim=1))
        y = functional.mish(self.norms[0](self.first(x))) + level[:, :, None]
        y = functional.mish(self.norms[1](self.second(y))) + self.past(x)
        sequence = self.norms[2](y).transpose(1, 2)
        y = y + self.within(sequence, sequence, sequence, need_weights=False)[0].transpose(1, 2)
        row = token[:, None].expand(-1, y.shape[2], -1)
        sequence = self.norms[3](y).transpose(1, 2)
        return y + self.across(sequence, row, row, need_weights=False)[0].transpose(1, 2)


def peer_inputs(rows: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Something to ask the peer about."""
    return torch.randn(rows, PAPER_CHANNELS, LATENT_LENGTH), torch.full((rows,), 500), torch.randn(rows, TOKEN)
