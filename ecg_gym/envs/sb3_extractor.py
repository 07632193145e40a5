"""``StripExtractor``: what a policy of stable-baselines3 sees of a strip or a latent, by convolutions along time.

Left alone, ``MultiInputPolicy`` flattens the 12 x 1024 numbers of a strip into one layer. Use it so::

    PPO("MultiInputPolicy", gym.make(id, obs="waveform"), policy_kwargs={"features_extractor_class": StripExtractor})

Needs ``pip install 'ecg-gym[rl]'``.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

SIGNALS = ("ecg", "latent")


class StripExtractor(BaseFeaturesExtractor):
    """``(B, features_dim)`` out of ``{"ecg": (B, 12, 1024) or "latent": (B, C, 128), "features": (B, d)}``.

    A stack of convolutions, each halving time, then mean and maximum over what is left (so the beat's place does not
    matter, but its presence does); the named features join through a layer of their own. ``ValueError`` for a space
    without a signal or without features.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        features_dim: int = 128,  # of the output; half of it comes from the signal
        width: int = 32,  # channels of the convolutions
        kernel: int = 7,  # samples that a convolution sees at once
        steps_left: int = 16,  # samples of time at which halving stops
    ) -> None:
        super().__init__(observation_space, features_dim)
        parts = dict(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else {}
        signal = next((name for name in SIGNALS if name in parts), None)
        if signal is None or "features" not in parts:
            raise ValueError(
                f"the observation space is {observation_space}; expected a Dict with 'features' and one of {SIGNALS}; "
                "make the env with obs='waveform' or obs='latent'"
            )
        self.signal = signal
        channels, samples = parts[signal].shape or (0, 0)
        (value,) = parts["features"].shape or (0,)
        layers: list[nn.Module] = []
        while samples > steps_left:
            layers += [nn.Conv1d(channels, width, kernel, stride=2, padding=kernel // 2), nn.ReLU()]
            channels, samples = width, (samples + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        half = features_dim // 2
        self.of_signal = nn.Sequential(nn.Linear(2 * channels, half), nn.ReLU())
        self.of_features = nn.Sequential(nn.Linear(value, features_dim - half), nn.ReLU())

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features ``(B, features_dim)``."""
        course = self.convolutions(observations[self.signal])
        pooled = torch.cat([course.mean(dim=-1), course.amax(dim=-1)], dim=-1)
        return torch.cat([self.of_signal(pooled), self.of_features(observations["features"])], dim=-1)
