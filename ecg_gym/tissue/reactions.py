"""The catalogue of reactions: what a cell does by itself, as pure functions that run on NumPy arrays and on tensors.

``reaction(name).rates(u, hidden, p, xp)`` returns ``du/dt`` and the rates of the hidden variables, all per ms, with
``xp`` either ``numpy`` or ``torch``. Arrays broadcast; ``p`` maps a parameter's name to a number or an array. Values,
bounds, units and sources are rows of ``reactions.yaml``. Gates that switch are sigmoids of slope 50, so that gradients
exist. ``ecg_gym.tissue.kernel`` compiles the same functions for single numbers (njit), so they keep to arithmetic and
to ``ecg_gym.tissue.scalars``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.yaml_files import read_yaml

SLOPE = 50.0  # of the sigmoid that stands for a switch at a threshold of u [1]
REACTIONS = ("fhn", "rm", "ap", "ms", "mms", "fk", "bocf", "neural")
_NEAR_REST = 1000.0  # slope of the two switches of bocf that lie 0.006 above rest
_BOCF_SCALE = 1.4  # the paper's potential at the peak; divided out so that u runs from 0 to about 1

Rates = tuple[Any, tuple[Any, ...]]


@dataclass(frozen=True)
class Parameter:
    """One row of ``reactions.yaml``: a positive number with its bounds and unit."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    published: float | None = None  # the paper's value where ours differs


@dataclass(frozen=True)
class Reaction:
    """One model of the catalogue."""

    name: str
    title: str
    equations: str
    source: str
    confidence: str
    parameters: tuple[Parameter, ...]
    hidden: tuple[str, ...]  # names of the hidden variables
    rest: tuple[float, ...]  # their values at rest; u rests at 0
    diffusion: float  # [mm2/ms] nominal diffusivity
    rates: Callable[..., Rates]  # (u, hidden, p, xp) -> du, (dhidden, ...), all [1/ms]

    @property
    def nominal(self) -> dict[str, float]:
        """Name and nominal value of every parameter."""
        return {row.name: row.value for row in self.parameters}


@cache
def reaction(name: str) -> Reaction:
    """The reaction of that name; raises ``ValueError`` for a name outside ``REACTIONS``."""
    if name not in REACTIONS:
        raise ValueError(f"reaction is {name!r}; expected one of {REACTIONS}; check the spelling")
    row = _table()[name]
    parameters = tuple(Parameter(key, **figures) for key, figures in row["parameters"].items())
    rates = {"fhn": fhn, "rm": rm, "ap": ap, "ms": ms, "mms": mms, "fk": fk, "bocf": bocf, "neural": _no_rates}[name]
    return Reaction(
        name, row["title"], row["equations"], row["source"], row["confidence"], parameters,
        tuple(row["hidden"]), tuple(row["hidden"].values()), float(row["diffusion"]), rates,
    )  # fmt: skip


@cache
def _table() -> dict[str, Any]:
    return read_yaml(Path(__file__).with_name("reactions.yaml"))


def _above(u: Any, threshold: Any, xp: Any, slope: float = SLOPE) -> Any:
    """A smooth step: 0 below the threshold, 1 above it."""
    return 0.5 + 0.5 * xp.tanh((0.5 * slope) * (u - threshold))


def fhn(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """FitzHugh-Nagumo."""
    (v,) = hidden
    return p["c1"] * u * (u - p["a"]) * (1 - u) - p["c2"] * v, (p["b"] * (u - p["d"] * v),)


def rm(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """Rogers-McCulloch: the recovery current is proportional to u, so there is no undershoot."""
    (v,) = hidden
    return u * (p["c1"] * (u - p["a"]) * (1 - u) - p["c2"] * v), (p["b"] * (u - p["d"] * v),)


def ap(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """Aliev-Panfilov. u + m2 is kept away from zero where numerical undershoot would reach it."""
    (v,) = hidden
    k, a, tu = p["k"], p["a"], p["tu"]
    rate = p["e0"] + p["m1"] * v / (xp.clip(u, -0.05, None) + p["m2"])
    return u * (k * (u - a) * (1 - u) - v) / tu, (rate * (-v - k * u * (u - a - 1)) / tu,)


def ms(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """Mitchell-Schaeffer; action potential duration near tclose ln(tout / 4 tin)."""
    (h,) = hidden
    du = u * (h * u * (1 - u) / p["tin"] - 1 / p["tout"])
    return du, (_gate(h, _above(u, p["ug"], xp), p),)


def mms(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """Modified Mitchell-Schaeffer: the cubic has its own threshold, so rest is stable and no pacemaker exists."""
    (h,) = hidden
    du = u * (h * (u - p["uc"]) * (1 - u) / p["tin"] - (1 - h) / p["tout"])
    return du, (_gate(h, _above(u, p["ug"], xp), p),)


def _gate(h: Any, above: Any, p: Mapping[str, Any]) -> Any:
    return (1 - above) * (1 - h) / p["topen"] - above * h / p["tclose"]


def fk(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """Fenton-Karma: fast inward, slow outward and slow inward current, gates v and w."""
    v, w = hidden
    on = _above(u, p["uc"], xp)
    above_uv = _above(u, p["uv"], xp)
    fast = v * (1 - u) * (u - p["uc"]) * on / p["td"]
    outward = u * (1 - on) / p["to"] + on / p["tr"]
    inward = w * (1 + xp.tanh(p["k"] * (u - p["ucsi"]))) / (2 * p["tsi"])
    opening = (1 - on) * (1 - v) / (above_uv * p["tv1"] + (1 - above_uv) * p["tv2"])
    return fast - outward + inward, (opening - on * v / p["tvp"], (1 - on) * (1 - w) / p["twm"] - on * w / p["twp"])


def bocf(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """Bueno-Orovio, Cherry and Fenton: three currents, three gates."""
    v, w, s = hidden
    x = _BOCF_SCALE * u
    above_v, above_w = _above(x, p["thv"], xp), _above(x, p["thw"], xp)
    above_vm, above_o = _above(x, p["thvm"], xp, _NEAR_REST), _above(x, p["tho"], xp, _NEAR_REST)
    fast = v * above_v * (x - p["thv"]) * (p["uu"] - x) / p["tfi"]
    t_o = p["to1"] + above_o * (p["to2"] - p["to1"])
    t_so = p["tso1"] + (p["tso2"] - p["tso1"]) * (1 + xp.tanh(p["kso"] * (x - p["uso"]))) / 2
    outward = x * (1 - above_w) / t_o + above_w / t_so
    inward = above_w * w * s / p["tsi"]
    v_rest, t_v = 1 - above_vm, p["tv1m"] + above_vm * (p["tv2m"] - p["tv1m"])
    dv = (1 - above_v) * (v_rest - v) / t_v - above_v * v / p["tvp"]
    w_rest = (1 - above_o) * (1 - x / p["twinf"]) + above_o * p["winf"]
    t_w = p["tw1m"] + (p["tw2m"] - p["tw1m"]) * (1 + xp.tanh(p["kwm"] * (x - p["uwm"]))) / 2
    dw = (1 - above_w) * (w_rest - w) / t_w - above_w * w / p["twp"]
    t_s = p["ts1"] + above_w * (p["ts2"] - p["ts1"])
    ds = ((1 + xp.tanh(p["ks"] * (x - p["us"]))) / 2 - s) / t_s
    return (fast - outward + inward) / _BOCF_SCALE, (dv, dw, ds)


def _no_rates(u: Any, hidden: tuple[Any, ...], p: Mapping[str, Any], xp: Any = np) -> Rates:
    """The neural reaction has no rates without a fitted network; see ``ecg_gym.tissue.networks``."""
    raise ValueError("the neural reaction has no nominal rates; expected a fitted network; use ecg_gym.tissue.fit")


def front_speed(name: str, p: Mapping[str, float], diffusion: float) -> float:
    """Speed [mm/ms] of a planar front in closed form, with the recovery variable frozen at rest.

    (1 - 2 a)/2 sqrt(2 D r) for the cubic r u (u - a)(1 - u): ``fhn``, ``rm``, ``ap``, ``mms``.
    """
    cubic = {"fhn": ("a", "c1"), "rm": ("a", "c1"), "ap": ("a", "k"), "mms": ("uc", "tin")}
    if name not in cubic:
        raise ValueError(f"no closed form for {name!r}; expected one of {tuple(cubic)}; simulate a cable instead")
    threshold, rate = (p[key] for key in cubic[name])
    rate = rate / p["tu"] if name == "ap" else 1 / rate if name == "mms" else rate
    return float((1 - 2 * threshold) / 2 * np.sqrt(2 * diffusion * rate))
