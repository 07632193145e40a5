"""The rivals by name: their networks, how they are trained, their sources, and their deviations from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ecg_gym.yaml_files import read_yaml
from training.loop import LoopConfig
from training.rivals.adversary import Rival
from training.rivals.convolutional import CECGGAN, WGAN, StyleGAN
from training.rivals.dadm import DADM
from training.rivals.diffusets import DiffuSETS, DiffuSETSBefore
from training.rivals.layers import Shape
from training.rivals.ode_gan import ODEGAN
from training.rivals.tts_cgan import TTSCGAN

NETWORKS: Mapping[str, type[Any]] = {
    "wgan": WGAN, "stylegan": StyleGAN, "cecg-gan": CECGGAN, "tts-cgan": TTSCGAN, "ode-gan": ODEGAN,
    "diffusets": DiffuSETS, "diffusets-before": DiffuSETSBefore, "dadm": DADM,
}  # fmt: skip
LEARNING_RATE = {"wgan": 1e-4, "diffusets": 1e-3, "diffusets-before": 1e-3, "dadm": 1e-3}  # peak; else 3e-4
DIFFUSION = ("diffusets", "diffusets-before", "dadm")


@dataclass(frozen=True)
class Words:
    """What is said of a rival."""

    title: str
    source: str
    deviations: tuple[str, ...]
    paper: Mapping[str, tuple[float, float]]  # accuracy and recall [%] of each interval in the paper's Table 2


@dataclass(frozen=True)
class BaselinePreset:
    """One way of training a rival."""

    name: str
    width: int = 64  # channels of a token
    condition: int = 64  # channels of the condition as a vector
    batch: int = 24
    loop: LoopConfig = field(default_factory=LoopConfig)


def preset_named(
    name: str, device: str | None = None, steps: int | None = None, minutes: float | None = None
) -> BaselinePreset:
    """The preset of a rival, its budget ``steps`` or CPU ``minutes``; ValueError for an unknown name."""
    check_name(name)
    gan = name not in DIFFUSION
    loop = LoopConfig(
        steps=steps or 6000, learning_rate=LEARNING_RATE.get(name, 3e-4), warmup=50, weight_decay=0.0,
        betas=(0.0, 0.9) if gan else (0.9, 0.99), clip=10.0 if gan else 1.0, ema_decay=0.995, device=device or "cpu",
        seconds=None if minutes is None else 60 * minutes, save_every=100,
    )  # fmt: skip
    return BaselinePreset(name, loop=loop)


def network(name: str, shape: Shape, seed: int = 0) -> Rival:
    """An untrained rival; torch's own generator stays where it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rival: Rival = NETWORKS[check_name(name)](shape)
    return rival


def check_name(name: str) -> str:
    """The name itself; ValueError for one that no trained rival has."""
    if name not in NETWORKS:
        raise ValueError(f"the baseline is {name!r}; expected one of {list(NETWORKS)}; check the spelling")
    return name


@cache
def words_of(name: str) -> Words:
    """Title, source and deviations, those that hold for all of them last."""
    table = _table()
    row = table["rivals"][name]
    everywhere = () if name == "llm" else table["everywhere"]
    paper = {interval: (float(pair[0]), float(pair[1])) for interval, pair in row.get("paper", {}).items()}
    return Words(str(row["title"]), str(row["source"]), (*row["deviations"], *everywhere), paper)


def all_words() -> list[Words]:
    """What is said of every rival, the language model last."""
    return [words_of(name) for name in _table()["rivals"]]


@cache
def _table() -> Mapping[str, Any]:
    return read_yaml(Path(__file__).with_name("catalogue.yaml"))


def described(name: str, shape: Shape) -> dict[str, Any]:
    """The configuration that a rival is built from, as JSON."""
    return {"name": name, "shape": asdict(shape)}
