"""From external physiological knowledge (EPK) to the anchor in latent space: z_EPK = Pi(e_EPK), Eq. 25.

``ecg_gym.physiology`` solves the treated McSharry model of this patient for the ten seconds that the denoiser will draw
(Eqs. 19 to 24), or abstains where five waves at an even rate are the wrong picture. Here the trace becomes a latent,
in a model of the paper's form; the shipped one has its EPK in eight leads and lets the codec encode it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.core import MODEL_SAMPLES
from ecg_gym.world_model.vae import LATENT_LENGTH, PAPER_CHANNELS


@dataclass(frozen=True)
class ProjectionConfig:
    """The projection from a trace to a latent."""

    kind: str = "conv"  # "conv": resample and convolve (the paper's text); "mlp" (its appendix)
    width: int = 48
    kernel: int = 9  # latent columns a convolution looks at; 1 is the paper's
    blocks: int = 2
    latent_channels: int = PAPER_CHANNELS


class Projection(nn.Module):
    """Pi: a trace ``(B, 1024)`` [mV] to the anchor z_EPK ``(B, C, 128)``, standardised like every latent.

    Trained by a loss of its own (|Pi(e) - z|^2 on rows that do not abstain); the diffusion loss does not reach it.
    Under one joint loss it would become a second denoiser, and "physics" a name for the conditional mean.
    """

    def __init__(self, config: ProjectionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ProjectionConfig()
        step = MODEL_SAMPLES // LATENT_LENGTH
        if config.kind not in ("conv", "mlp"):
            raise ValueError(f"projection is {config.kind!r}; expected 'conv' or 'mlp'; choose 'conv'")
        if config.kind == "mlp":
            self.layers = nn.Sequential(
                nn.Linear(MODEL_SAMPLES, 4 * config.width),
                nn.GELU(),
                nn.Linear(4 * config.width, config.latent_channels * LATENT_LENGTH),
            )
            return
        resample: list[nn.Module] = [nn.Conv1d(1, config.width, step, stride=step)]
        mix: list[nn.Module] = [
            _Residual(nn.Conv1d(config.width, config.width, config.kernel, padding=config.kernel // 2))
            for _ in range(config.blocks)
        ]
        self.layers = nn.Sequential(*resample, *mix, nn.Conv1d(config.width, config.latent_channels, 1))

    def forward(self, trace: Tensor, mask: Tensor) -> Tensor:
        """z_EPK ``(B, C, 128)`` of traces ``(B, 1024)`` [mV]; 0 in rows that ``mask (B,)`` leaves out."""
        e = trace if self.config.kind == "mlp" else trace[:, None]
        latent = self.layers(e).reshape(-1, self.config.latent_channels, LATENT_LENGTH).float()
        return latent * mask.to(latent.dtype)[:, None, None]


class _Residual(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(functional.gelu(x))


def alignment_loss(anchor: Tensor, z0: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance between anchors and the true next latents ``(B, C, 128)``, over rows with an anchor."""
    weight = mask.to(z0.dtype)
    error = (anchor - z0).square().flatten(1).mean(1)
    return (weight * error).sum() / weight.sum().clamp(min=1.0)
