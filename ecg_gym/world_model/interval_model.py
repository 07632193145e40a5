"""What will be measured next: the distribution of the intervals of the next strip, before anybody draws it.

ECG-WM in two stages, p(z', m' | c) = p(m' | c) p(z' | m', c). The first is here: a mixture density (Bishop 1994) over
the intervals m' that a delineator will read off the next strip. It begins at what pharmacology expects of an average
heart that looked like this one, and learns the rest: how people differ, how sure one can be, who dies. The second, the
denoiser, draws a strip with those intervals. So means and spreads are learned on
intervals, and errors of drawing do not feed back into the forecast.

    y = (log rate, QRS, J-Tpeak-c, Tpeak-Tend, log T, log R, log SD of RR, PR)      given the signs s
    s = (P waves, regular, T measurable)                                           eight classes

Each component of the mixture is Gaussian with a full covariance, written as a chain of regressions: y_d given all that
came before it. What is missing drops out of the chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model.conditioning import OBSERVED

TARGETS = ("log_hr", "qrs", "jtpeakc", "tpeak_tend", "log_t", "log_r", "log_rr_sd", "pr")
_BASES = (
    "expected.hr_bpm", "expected.qrs_ms", "expected.jtpeakc_ms", "expected.tpeak_tend_ms", "measured.t_amplitude_mv",
    "measured.r_amplitude_mv", "measured.rr_sd_ms", "expected.pr_ms",
)  # fmt: skip
_LOGS = {"log_hr": 0.0, "log_t": 0.02, "log_r": 0.02, "log_rr_sd": 5.0}  # what is added before the logarithm
_T_DEPENDENT = ("jtpeakc", "tpeak_tend", "log_t")
_AT = {name: i for i, name in enumerate(OBSERVED)}
CLASSES = 8
_D = len(TARGETS)


@dataclass(frozen=True)
class PrognosisConfig:
    """The size of the mixture density network."""

    n_features: int
    width: int = 256
    blocks: int = 3
    components: int = 6
    dropout: float = 0.0  # in training only


@dataclass(frozen=True)
class Chance:
    """The random numbers of one step, one row per patient; the same ones compare treatments."""

    sign: np.ndarray  # (B,) uniform
    component: np.ndarray  # (B,) uniform
    normal: np.ndarray  # (B, 8) standard normal
    death: np.ndarray  # (B,) uniform

    @classmethod
    def of(cls, generators: Sequence[np.random.Generator]) -> Chance:
        """As many draws from each row's own generator, whatever happens next."""
        uniform = np.stack([g.random(3) for g in generators])
        return cls(uniform[:, 0], uniform[:, 1], np.stack([g.standard_normal(_D) for g in generators]), uniform[:, 2])

    def __getitem__(self, rows: slice | np.ndarray) -> Chance:
        return Chance(self.sign[rows], self.component[rows], self.normal[rows], self.death[rows])


class IntervalModel(nn.Module):
    """p(m' | condition) for the intervals of the next strip, and the probability of not living to see it."""

    typical: Tensor
    scale: Tensor
    widening: Tensor

    def __init__(self, config: PrognosisConfig) -> None:
        super().__init__()
        self.config = config
        width, k = config.width, config.components
        self.enter = nn.Linear(config.n_features, width)
        self.trunk = nn.ModuleList([_Block(width, config.dropout) for _ in range(config.blocks)])
        self.signs = nn.Linear(width, CLASSES)
        self.death = nn.Linear(width, 1)
        self.given_signs = nn.Embedding(CLASSES, width)
        self.head = nn.Sequential(_Block(width, config.dropout), nn.LayerNorm(width), nn.SiLU())
        self.mixture = nn.Linear(width, k * (1 + 2 * _D + _D * (_D - 1) // 2))
        nn.init.normal_(self.mixture.weight, std=0.01)
        with torch.no_grad():  # components begin apart: from narrow to wide
            spread = torch.linspace(math.log(0.4), math.log(3.0), k)
            self.mixture.bias.zero_()
            self.mixture.bias[k + k * _D : k + 2 * k * _D] = spread[:, None].expand(k, _D).flatten()
        self.register_buffer("typical", torch.zeros(_D))  # where a chain starts whose last strip could not be measured
        self.register_buffer("scale", torch.ones(_D))  # of the surprise in training data
        self.register_buffer("widening", torch.ones(_D))  # of the components, fitted on people it did not learn from

    def set_scale(self, typical: np.ndarray, scale: np.ndarray) -> None:
        """Store where to begin without a measurement and how large surprises are, ``(8,)`` each, as measured."""
        self.typical.copy_(torch.as_tensor(typical, dtype=torch.float32))
        self.scale.copy_(torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, condition: Tensor) -> Tensor:
        """What the trunk makes of conditions ``(B, F)``."""
        x = self.enter(condition)
        for block in self.trunk:
            x = block(x)
        return x

    def nll(
        self, condition: Tensor, base: Tensor, target: Tensor, signs: Tensor, survived: Tensor
    ) -> dict[str, Tensor]:
        """Negative log-likelihoods ``(B,)`` of what happened, by part: ``intervals``, ``signs``, ``death``.

        ``base`` and ``target (B, 8)`` with NaN where unknown, ``signs (B,)`` int64, ``survived (B,)`` 0 or 1; the first
        two parts are 0 for those who died.
        """
        hidden = self(condition)
        surprise = (target - self.starting(base)) / self.scale
        known = torch.isfinite(surprise) & (survived > 0)[:, None]
        log_weight, mean, log_sd, lower = self._components(hidden, signs)
        deviation = torch.where(known, surprise, 0.0)[:, None] - mean  # (B, K, 8)
        deviation = torch.where(known[:, None], deviation, 0.0)
        surprise_given = deviation - torch.einsum("bkde,bke->bkd", lower, deviation)
        each = -0.5 * (surprise_given / log_sd.exp()).square() - log_sd - 0.5 * math.log(2 * math.pi)
        likely = torch.logsumexp(log_weight + torch.where(known[:, None], each, 0.0).sum(-1), dim=1)
        alive = (survived > 0).float()
        return {
            "intervals": -likely * alive,
            "signs": functional.cross_entropy(self.signs(hidden), signs, reduction="none") * alive,
            "death": functional.binary_cross_entropy_with_logits(
                self.death(hidden)[:, 0], 1 - survived, reduction="none"
            ),
        }

    @torch.inference_mode()
    def draw(self, condition: Tensor, base: Tensor, chance: Chance) -> tuple[np.ndarray, np.ndarray]:
        """One next measurement ``(B, len(OBSERVED))`` in units per row, and who survives ``(B,)`` bool."""
        hidden = self(condition)
        signs = _pick(functional.softmax(self.signs(hidden), dim=1), chance.sign)
        log_weight, mean, log_sd, lower = self._components(hidden, signs)
        rows, chosen = torch.arange(len(signs)), _pick(log_weight.exp(), chance.component)
        mean, sd, lower = mean[rows, chosen], log_sd[rows, chosen].exp(), lower[rows, chosen]
        noise = torch.as_tensor(chance.normal, dtype=torch.float32)
        deviation = torch.zeros_like(mean)
        for d in range(_D):
            deviation[:, d] = sd[:, d] * noise[:, d] + (lower[:, d] * deviation).sum(-1)
        y = self.starting(base) + self.scale * (mean + deviation)
        survives = torch.as_tensor(chance.death) >= torch.sigmoid(self.death(hidden)[:, 0])
        return observed_of(y.numpy(), signs.numpy()), survives.numpy()

    def starting(self, base: Tensor) -> Tensor:
        """``base (B, 8)`` with what is unknown replaced by what is typical."""
        return torch.where(torch.isfinite(base), base, self.typical)

    def _components(self, hidden: Tensor, signs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-weights ``(B, K)``, means and log-SDs ``(B, K, 8)``, regressions on what came before ``(B, K, 8, 8)``."""
        b, k = len(hidden), self.config.components
        inputs = self.mixture(self.head(hidden + self.given_signs(signs))).float()
        weight, mean, log_sd, rest = inputs.split([k, k * _D, k * _D, k * _D * (_D - 1) // 2], dim=1)
        lower = torch.zeros(b, k, _D, _D, device=hidden.device)
        row, column = torch.tril_indices(_D, _D, offset=-1)
        lower[:, :, row, column] = rest.reshape(b, k, -1)
        return (
            functional.log_softmax(weight, dim=1),
            mean.reshape(b, k, _D),
            log_sd.reshape(b, k, _D).clamp(-4.0, 4.0) + self.widening.log(),
            lower,
        )


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.contract(self.dropout(functional.silu(self.expand(self.norm(x)))))


def target_of(observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets ``(B, 8)``, NaN where unknown, and the class of the signs ``(B,)``, of measurements in units."""
    column = {name: observed[:, i].astype(float) for name, i in _AT.items()}
    columns = {
        "log_hr": column["hr_bpm"], "qrs": column["qrs_ms"], "jtpeakc": column["jtpeakc_ms"],
        "tpeak_tend": column["tpeak_tend_ms"], "log_t": column["t_amplitude_mv"], "log_r": column["r_amplitude_mv"],
        "log_rr_sd": column["rr_sd_ms"], "pr": column["pr_ms"],
    }  # fmt: skip
    y = np.stack([_forward(name, columns[name]) for name in TARGETS], axis=1)
    signs = np.nan_to_num(column["p_present"]) + 2 * np.nan_to_num(column["regular"])
    signs = signs + 4 * np.isfinite(y[:, [TARGETS.index(name) for name in _T_DEPENDENT]]).all(axis=1)
    return y, signs.astype(np.int64)


def base_of(raw: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Where each chain begins ``(B, 8)``: what an average heart would do; ``raw`` completed, NaN where unknown."""
    at = {name: i for i, name in enumerate(names)}
    return np.stack([_forward(name, raw[:, at[base]].astype(float)) for name, base in zip(TARGETS, _BASES)], axis=1)


def observed_of(y: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Measurements ``(B, len(OBSERVED))`` in units, NaN where the signs say that there is nothing to measure."""
    p, regular, t = (signs & bit > 0 for bit in (1, 2, 4))
    value = {name: _backward(name, y[:, d]) for d, name in enumerate(TARGETS)}
    rr_s = 60 / value["log_hr"]
    jtpeak = value["jtpeakc"] * rr_s**JTPEAK_EXPONENT
    qt = value["qrs"] + jtpeak + value["tpeak_tend"]
    repolarisation = {
        "qt_ms": qt, "qtcf_ms": qt / rr_s ** (1 / 3), "jtpeak_ms": jtpeak, "jtpeakc_ms": value["jtpeakc"],
        "tpeak_tend_ms": value["tpeak_tend"], "t_amplitude_mv": value["log_t"],
    }  # fmt: skip
    inputs = {
        "hr_bpm": value["log_hr"], "rr_sd_ms": value["log_rr_sd"], "qrs_ms": value["qrs"],
        "r_amplitude_mv": value["log_r"], "pr_ms": np.where(p, value["pr"], np.nan), "p_present": p, "regular": regular,
        **{name: np.where(t, known, np.nan) for name, known in repolarisation.items()},
    }  # fmt: skip
    return np.stack([inputs[name] for name in OBSERVED], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def guards() -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each target, in its unit; ``guards.yaml``."""
    table = yaml.safe_load(Path(__file__).with_name("guards.yaml").read_text(encoding="utf-8"))
    return {name: (float(row["low"]), float(row["high"])) for name, row in table.items()}


def _forward(name: str, value: np.ndarray) -> np.ndarray:
    if name not in _LOGS:
        return value
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = np.log(np.maximum(value + _LOGS[name], 1e-6))
    return np.where(np.isfinite(value), logarithm, np.nan)


def _backward(name: str, y: np.ndarray) -> np.ndarray:
    value = np.exp(np.clip(y, -10, 10)) - _LOGS[name] if name in _LOGS else y
    return np.clip(value, *guards()[name])


def _pick(probability: Tensor, uniform: np.ndarray) -> Tensor:
    """The index ``(B,)`` that each uniform number falls on."""
    edges = probability.double().cumsum(dim=1)
    u = torch.as_tensor(uniform, dtype=torch.float64)[:, None] * edges[:, -1:]
    return (edges <= u).sum(dim=1).clamp(max=probability.shape[1] - 1)
