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
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.look import log_odds
from ecg_gym.philox import fill_uniform
from ecg_gym.risk.aggregate import ROWS
from ecg_gym.streams import Streams
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model.conditioning import OBSERVED
from ecg_gym.yaml_files import read_yaml

TARGETS = ("log_hr", "qrs", "jtpeakc", "tpeak_tend", "log_t", "log_r", "log_rr_sd", "pr")
_BASES = (
    "expected.hr_bpm", "expected.qrs_ms", "expected.jtpeakc_ms", "expected.tpeak_tend_ms", "measured.t_amplitude_mv",
    "measured.r_amplitude_mv", "measured.rr_sd_ms", "expected.pr_ms",
)  # fmt: skip
_LOGS = {"log_hr": 0.0, "log_t": 0.02, "log_r": 0.02, "log_rr_sd": 5.0}  # what is added before the logarithm
_T_DEPENDENT = ("jtpeakc", "tpeak_tend", "log_t")
_AT = {name: i for i, name in enumerate(OBSERVED)}
CLASSES = 8
CUFF_MMHG = 8.0  # the unit of what the net says of pressures: about the SD of two readings an hour apart
USUAL_MMHG = 93.0  # 120/80 mmHg, where no pressure is known
LEAST_MMHG = 5.0  # of a reading
_D = len(TARGETS)


@dataclass(frozen=True)
class PrognosisConfig:
    """The size of the mixture density network."""

    n_features: int
    width: int = 256
    blocks: int = 3
    components: int = 6
    dropout: float = 0.0  # in training only
    findings: int = 0  # units of the head that says the next findings; 0 has none
    pressure: bool = False  # whether it says the next mean arterial pressure


@dataclass(frozen=True)
class Chance:
    """The random numbers of one step, one row per patient; the same ones compare treatments."""

    sign: np.ndarray  # (B,) uniform
    component: np.ndarray  # (B,) uniform
    normal: np.ndarray  # (B, 8) standard normal
    death: np.ndarray  # (B,) uniform
    key: np.ndarray  # (B,) uint64, of the strip: its drawing has the same noise whenever it is drawn
    pressure: np.ndarray  # (B,) standard normal

    @classmethod
    def of(cls, streams: Streams) -> Chance:
        """As many numbers from each row's own stream, whatever happens next."""
        uniform = np.empty((len(streams), 4 + 2 * (_D + 1)))
        fill_uniform(streams.key, streams.counter, uniform)
        radius = np.sqrt(-2 * np.log1p(-uniform[:, 4 : 5 + _D]))
        normal = radius * np.cos(2 * np.pi * uniform[:, 5 + _D :])  # Box and Muller 1958
        key = (uniform[:, 3] * 2.0**53).astype(np.uint64)
        return cls(uniform[:, 0], uniform[:, 1], normal[:, :_D], uniform[:, 2], key, normal[:, _D])

    def __getitem__(self, rows: slice | np.ndarray) -> Chance:
        return Chance(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Emission:
    """What the next look says, one draw per row."""

    observed: np.ndarray  # (B, len(OBSERVED)) in units, NaN where there is nothing to measure
    findings: np.ndarray  # (B, 17) probabilities: their mean, given what is measured
    survives: np.ndarray  # (B,) bool
    pressure: np.ndarray  # (B,) [mmHg] what a cuff says; NaN from weights that know of none


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
        self.findings = _FindingsHead(width, config.findings) if config.findings else None
        self.pressure = nn.Linear(width, 2) if config.pressure else None
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
        self, condition: Tensor, base: Tensor, target: Tensor, signs: Tensor, survived: Tensor,
        was: Tensor | None = None, findings: Tensor | None = None,
        cuff: Tensor | None = None, next_cuff: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Negative log-likelihoods ``(B,)`` of what happened, by part: ``intervals``, ``signs``, ``death``.

        ``base`` and ``target (B, 8)`` with NaN where unknown, ``signs (B,)`` int64, ``survived (B,)`` 0 or 1; all parts
        but ``death`` are 0 for those who died. Given the log odds ``was (B, 17)`` of the findings before and the
        probabilities ``findings (B, 17)`` after, also the squared errors of the latter: ``findings``, summed over the
        17, and ``judgement``, of what the risk makes of them. Given the pressure that is expected, ``cuff (B,)``, and
        the one that came, ``next_cuff (B,)`` [mmHg], NaN where unknown, also its negative log-likelihood ``pressure``.
        """
        hidden = self(condition)
        surprise = (target - self.starting(base)) / self.scale
        finite = torch.isfinite(surprise) & (survived > 0)[:, None]
        log_weight, mean, log_sd, lower = self._components(hidden, signs)
        deviation = torch.where(finite, surprise, 0.0)[:, None] - mean  # (B, K, 8)
        deviation = torch.where(finite[:, None], deviation, 0.0)
        surprise_given = deviation - torch.einsum("bkde,bke->bkd", lower, deviation)
        each = -0.5 * (surprise_given / log_sd.exp()).square() - log_sd - 0.5 * math.log(2 * math.pi)
        likely = torch.logsumexp(log_weight + torch.where(finite[:, None], each, 0.0).sum(-1), dim=1)
        alive = (survived > 0).float()
        more = {}
        if self.findings is not None and was is not None and findings is not None:
            predicted = torch.sigmoid(self.findings(hidden, torch.where(finite, surprise, 0.0), signs, was))
            more["findings"] = (predicted - findings).square().sum(1) * alive
            more["judgement"] = (self.findings.adverse(predicted) - self.findings.adverse(findings)).square() * alive
        if self.pressure is not None and cuff is not None and next_cuff is not None:
            middle, log_sd_cuff = self._pressure(hidden, cuff)
            there = torch.isfinite(next_cuff)
            off = (torch.where(there, next_cuff, 0.0) - torch.where(there, middle, 0.0)) / (
                CUFF_MMHG * log_sd_cuff.exp()
            )
            more["pressure"] = (0.5 * off.square() + log_sd_cuff) * there * alive
        return {
            **more,
            "intervals": -likely * alive,
            "signs": functional.cross_entropy(self.signs(hidden), signs, reduction="none") * alive,
            "death": functional.binary_cross_entropy_with_logits(
                self.death(hidden)[:, 0], 1 - survived, reduction="none"
            ),
        }

    @torch.inference_mode()
    def draw(
        self, condition: Tensor, base: Tensor, chance: Chance, was: np.ndarray, cuff: np.ndarray | None = None
    ) -> Emission:
        """One next look per row. ``was (B, 17)`` are the probabilities of the findings before: without a head of its
        own for them, they stay what they were. ``cuff (B,)`` is the pressure that is expected [mmHg].
        """
        device = self.typical.device
        condition, base = condition.to(device), base.to(device)
        hidden = self(condition)
        signs = _pick(functional.softmax(self.signs(hidden), dim=1), chance.sign)
        log_weight, mean, log_sd, lower = self._components(hidden, signs)
        rows, component = torch.arange(len(signs), device=device), _pick(log_weight.exp(), chance.component)
        mean, sd, lower = mean[rows, component], log_sd[rows, component].exp(), lower[rows, component]
        noise = torch.as_tensor(chance.normal, dtype=torch.float32, device=device)
        deviation = torch.zeros_like(mean)
        for d in range(_D):
            deviation[:, d] = sd[:, d] * noise[:, d] + (lower[:, d] * deviation).sum(-1)
        y = self.starting(base) + self.scale * (mean + deviation)
        survives = torch.as_tensor(chance.death, device=device) >= torch.sigmoid(self.death(hidden)[:, 0])
        findings = np.asarray(was, np.float32)
        if self.findings is not None:
            before = torch.as_tensor(np.nan_to_num(log_odds(was)), dtype=torch.float32, device=device)
            findings = torch.sigmoid(self.findings(hidden, mean + deviation, signs, before)).cpu().numpy()
        pressure = np.full(len(hidden), np.nan)
        if self.pressure is not None:
            expected = np.full(len(hidden), np.nan) if cuff is None else cuff
            middle, log_sd_cuff = self._pressure(hidden, torch.as_tensor(expected, dtype=torch.float32, device=device))
            cuff_noise = torch.as_tensor(chance.pressure, dtype=torch.float32, device=device)
            pressure = np.maximum((middle + CUFF_MMHG * log_sd_cuff.exp() * cuff_noise).cpu().numpy(), LEAST_MMHG)
        observed = observed_of(y.cpu().numpy(), signs.cpu().numpy())
        return Emission(observed, findings, survives.cpu().numpy(), pressure)

    def _pressure(self, hidden: Tensor, cuff: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [mmHg] and log SD (in ``CUFF_MMHG``) of the next reading of a cuff, ``(B,)`` each."""
        assert self.pressure is not None
        shift, log_sd = self.pressure(hidden).float().unbind(dim=1)
        return torch.where(torch.isfinite(cuff), cuff, USUAL_MMHG) + CUFF_MMHG * shift, log_sd.clamp(-3.0, 3.0)

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


class _FindingsHead(nn.Module):
    """The log odds of the next findings: those of before, and what trunk, intervals and signs add to them."""

    severity: Tensor
    group: Tensor

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width + _D + CLASSES + len(ROWS), units), nn.SiLU(), nn.Linear(units, len(ROWS))
        )
        nn.init.zeros_(self.layers[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[2].bias)  # type: ignore[arg-type]
        names = list(dict.fromkeys(row.group for row in ROWS))
        self.register_buffer("severity", torch.tensor([row.severity for row in ROWS]), persistent=False)
        member = torch.tensor([[row.group == name for row in ROWS] for name in names])
        self.register_buffer("group", member.float(), persistent=False)

    def forward(self, hidden: Tensor, surprise: Tensor, signs: Tensor, was: Tensor) -> Tensor:
        """Log odds ``(B, 17)``; ``surprise (B, 8)`` in its scales, ``was (B, 17)`` the log odds before."""
        inputs = [hidden, surprise.clamp(-6, 6), functional.one_hot(signs, CLASSES).to(hidden.dtype), was / 4]
        return was + self.layers(torch.cat(inputs, dim=1))

    def adverse(self, probabilities: Tensor) -> Tensor:
        """What the risk makes of findings ``(B, 17)``: ``risk.aggregate.adverse`` for gradients, ``(B,)``."""
        weighted = probabilities * self.severity
        heaviest = (weighted[:, None] * self.group).amax(dim=2)
        return 1 - (1 - heaviest).prod(dim=1)


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
        **{name: np.where(t, value, np.nan) for name, value in repolarisation.items()},
    }  # fmt: skip
    return np.stack([inputs[name] for name in OBSERVED], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def guards() -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each target, in its unit; ``guards.yaml``."""
    table = read_yaml(Path(__file__).with_name("guards.yaml"))
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
    u = torch.as_tensor(uniform, dtype=torch.float64, device=probability.device)[:, None] * edges[:, -1:]
    return (edges <= u).sum(dim=1).clamp(max=probability.shape[1] - 1)
