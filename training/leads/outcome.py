"""``Outcome``: what an agent may know of a fit. ``Evaluator``: one patient's data, ready to be fitted.

Everything stands on one side or the other of ``evaluate(candidate) -> Outcome``: live fits with a cache on disk behind
it, or a table of fits made before; searches, the environment and the command line before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ecg_gym.tissue.diagnostics import DIAGNOSTICS
from training.leads.structure import Candidate

if TYPE_CHECKING:
    from ecg_gym.tissue import DataSet, Fit, FitOptions


@dataclass(frozen=True)
class Outcome:
    """From train and validation protocols alone; errors are mean squares of the observed quantity."""

    train_error: float
    validation_error: float
    stable: bool
    n_parameters: int
    residual_share: float
    cpu_s: float  # [s]
    diagnostics: Mapping[str, float]  # names in ecg_gym.tissue.diagnostics.DIAGNOSTICS

    @classmethod
    def of(cls, fit: Fit) -> Outcome:
        """What of a fit an agent may know."""
        return cls(
            fit.train_error, fit.validation_error, fit.stable, fit.n_parameters, fit.residual_share, fit.cpu_s,
            {name: float(fit.diagnostics[name]) for name in DIAGNOSTICS},
        )  # fmt: skip

    def row(self) -> dict[str, float]:
        """Flat numbers, for a table."""
        values = asdict(self)
        return {**{k: float(v) for k, v in values.items() if k != "diagnostics"}, **values["diagnostics"]}


class Evaluator(Protocol):
    """One patient's data."""

    null_error: float  # validation error of a tissue that stays at rest

    def evaluate(self, candidate: Candidate) -> Outcome:
        """Fit it, or look it up."""

    def available(self, candidate: Candidate) -> bool:
        """Whether :meth:`evaluate` knows it."""


class LiveEvaluator:
    """Fits when asked; what was fitted before comes from ``cache``. ``fits`` counts the fits that were made."""

    def __init__(self, data: DataSet, cache: Path | None = None, options: FitOptions | None = None) -> None:
        from ecg_gym.tissue import FitOptions

        self.data, self.cache = data, cache
        self.options = options or FitOptions()
        self.null_error = null_error(data)
        self.fits = 0
        self._fits: dict[Candidate, Fit] = {}

    def available(self, candidate: Candidate) -> bool:
        """Everything can be fitted."""
        return True

    def evaluate(self, candidate: Candidate) -> Outcome:
        """The outcome of the candidate's fit."""
        return Outcome.of(self.fit(candidate))

    def fit(self, candidate: Candidate) -> Fit:
        """The fit, with its parameters; from memory, the cache or anew."""
        if candidate not in self._fits:
            self._fits[candidate] = self._from_cache(candidate) or self._anew(candidate)
        return self._fits[candidate]

    def _from_cache(self, candidate: Candidate) -> Fit | None:
        from training.leads.fit_files import read_fit

        return read_fit(self._path(candidate)) if self.cache is not None else None

    def _anew(self, candidate: Candidate) -> Fit:
        from dataclasses import replace

        from ecg_gym.tissue import fit
        from training.leads.fit_files import write_fit

        options = replace(self.options, effort=self.options.effort * candidate.effort)
        if candidate.restart:
            options = replace(options, restarts=2, seed=self.options.seed + 100 * candidate.restart)
        ((result,),) = fit([candidate.spec], [self.data], options)
        self.fits += 1
        if self.cache is not None:
            write_fit(result, self._path(candidate))
        return result

    def _path(self, candidate: Candidate) -> Path:
        assert self.cache is not None
        return self.cache / f"{self.data.key}-{candidate.key}.safetensors"


def null_error(data: DataSet) -> float:
    """The validation error of a tissue that stays at rest, in the units of a fit's errors."""
    import torch

    from ecg_gym.tissue.objective import Target

    rest = torch.zeros(data.samples, len(data.graph), len(data.validation), 1)
    return float(Target.of([data], data.validation).errors(rest)[0])
