"""ECG-WM: a codec, a conditional diffusion in its latent space, physiological knowledge as anchor.

Both names load torch, so they are imported when first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecg_gym.world_model.model import WorldModel
    from ecg_gym.world_model.vae import VAE

__all__ = ["VAE", "WorldModel"]


def __getattr__(name: str) -> Any:
    if name == "WorldModel":
        from ecg_gym.world_model.model import WorldModel

        return WorldModel
    if name == "VAE":
        from ecg_gym.world_model.vae import VAE

        return VAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
