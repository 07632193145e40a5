"""Risk measures: what of each future counts, and how K futures become one score. Lower is better, everywhere.

    MeanVariance(0.6)            mean + 0.6 x SD of the risks (the paper's)
    CVaR(0.75)                   mean of the worst quarter of the risks
    Entropic(2.0)                log(mean(exp(2 x risk))) / 2
    Exceedance(500.0)            share of futures whose QTcF goes above 500 ms at any step

Every planner and ``plan(..., measure=...)`` takes any of them, or an object of yours with ``losses`` and ``score``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from planners import scoring


class Outcomes(Protocol):
    """What a measure may look at; all arrays end in K futures."""

    @property
    def risks(self) -> np.ndarray:
        """(..., K) what each future costs; the dead and the non-finite the most."""
        ...

    @property
    def lost(self) -> np.ndarray:
        """(..., K) bool: died, or not finite."""
        ...

    @property
    def peaks(self) -> Mapping[str, np.ndarray]:
        """Interval name -> (..., K), the highest value on the way; NaN where it could not be measured at some step."""
        ...


@runtime_checkable
class Measure(Protocol):
    """A risk measure; ``str(measure)`` is how it is called in tables and JSON."""

    def losses(self, outcomes: Outcomes) -> np.ndarray:
        """(..., K): what each future counts."""
        ...

    def score(self, losses: np.ndarray) -> np.ndarray:
        """One number per row over the last axis of ``losses (..., K)``; lower is better."""
        ...


@dataclass(frozen=True)
class MeanVariance:
    """S = mean + lambda x SD, the SD c4-corrected; of a single future the mean (Markowitz 1952, J Finance 7:77)."""

    risk_aversion: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.risk_aversion < np.inf:
            raise ValueError(
                f"risk_aversion is {self.risk_aversion}; expected a finite number from 0 up; the paper's is 0.6"
            )

    def __str__(self) -> str:
        return f"mean + {self.risk_aversion:g} x SD"

    def losses(self, outcomes: Outcomes) -> np.ndarray:
        """The risks."""
        return outcomes.risks

    def score(self, losses: np.ndarray) -> np.ndarray:
        """Mean + lambda x SD."""
        return scoring.score(losses, self.risk_aversion)


@dataclass(frozen=True)
class CVaR:
    """Mean of the worst ``1 - alpha`` of the futures (Rockafellar & Uryasev 2000, J Risk 2:21); alpha 0 is the mean.

    Of K futures the worst ``(1 - alpha) K`` count, the last of them in part; fewer than one is the worst one.
    """

    alpha: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; expected 0 <= alpha < 1; 0.75 looks at the worst quarter")

    def __str__(self) -> str:
        return f"CVaR {self.alpha:g}"

    def losses(self, outcomes: Outcomes) -> np.ndarray:
        """The risks."""
        return outcomes.risks

    def score(self, losses: np.ndarray) -> np.ndarray:
        """Mean of the worst."""
        k = losses.shape[-1]
        tail = max((1 - self.alpha) * k, 1.0)
        weights = np.clip(tail - np.arange(k), 0, 1) / tail  # of the worst, the second worst ...
        return np.sort(losses, axis=-1)[..., ::-1] @ weights


@dataclass(frozen=True)
class Entropic:
    """log(mean(exp(theta x risk))) / theta (Föllmer & Schied 2002, Finance Stoch 6:429); small theta is the mean."""

    theta: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.theta < np.inf:
            raise ValueError(f"theta is {self.theta}; expected a finite number above 0; MeanVariance(0) is the mean")

    def __str__(self) -> str:
        return f"entropic {self.theta:g}"

    def losses(self, outcomes: Outcomes) -> np.ndarray:
        """The risks."""
        return outcomes.risks

    def score(self, losses: np.ndarray) -> np.ndarray:
        """The certainty equivalent; computed from the largest down, so that nothing overflows."""
        top = losses.max(axis=-1, keepdims=True)
        return top[..., 0] + np.log(np.exp(self.theta * (losses - top)).mean(axis=-1)) / self.theta


@dataclass(frozen=True)
class Exceedance:
    """P(an interval goes above a limit at any step): P(QTcF > 500 ms) by default.

    Futures that are lost count as above, and so do those in which it could not be measured: a treatment cannot look
    safe by blurring the T wave. 500 ms: Drew 2010, Circulation 121:1047, doi:10.1161/CIRCULATIONAHA.109.192704.
    """

    limit: float = 500.0
    interval: str = "qtcf_ms"

    def __str__(self) -> str:
        return f"P({self.interval} > {self.limit:g})"

    def losses(self, outcomes: Outcomes) -> np.ndarray:
        """1.0 where it goes above, 0.0 elsewhere."""
        return (outcomes.lost | ~(outcomes.peaks[self.interval] <= self.limit)).astype(float)

    def score(self, losses: np.ndarray) -> np.ndarray:
        """The share."""
        return losses.mean(axis=-1)


NAMES: dict[str, Callable[..., Measure]] = {
    "mean-variance": MeanVariance,
    "cvar": CVaR,
    "entropic": Entropic,
    "p-qtcf": Exceedance,
}


def measure_named(words: str) -> Measure:
    """A measure from words such as ``"cvar:0.9"``: a name out of ``NAMES``, and its number if not the usual one."""
    name, _, number = words.partition(":")
    try:
        return NAMES[name](*([float(number)] if number else []))
    except KeyError:
        raise ValueError(f"measure is {words!r}; expected one of {tuple(NAMES)}; write for example cvar:0.9") from None
    except ValueError as error:
        raise ValueError(f"measure is {words!r}: {error}; write for example cvar:0.9") from None


def resolved(measure: Measure | str | None, risk_aversion: float = 0.6) -> Measure:
    """The measure that is meant: itself, the one of that name, or the paper's with this ``risk_aversion``."""
    if measure is None:
        return MeanVariance(risk_aversion)
    return measure_named(measure) if isinstance(measure, str) else measure
