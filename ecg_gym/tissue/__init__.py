"""LEADS: reaction-diffusion models of a patient's tissue, and the search for their structure.

Nouns (NumPy only)::

    Spec(reaction, diffusion, residual, width, regulariser)   one of 1,728 structures; .to_json(), .key; specs(...)
    REACTIONS, DIFFUSIONS, RESIDUALS, WIDTHS, REGULARISERS     the choices; reaction(name) is a row of the catalogue
    Graph: cable(...), sheet(side, spacing_mm), biventricular()
    Pacing, DataSet                                           recordings, split into train, validation and held_out
    Fit, FitOptions                                           what fit returns; how hard it tries

With torch, in modules of their own, loaded when first used from here::

    hearts(name, seeds, kind, graph)                          synthetic data sets (ecg_gym.tissue.synthetic)
    fit(specs, datasets, options) -> list[list[Fit]]          [i][j]: spec i on data set j (ecg_gym.tissue.fitting)
    held_out_errors(fits, datasets)                           judged on the held-out protocol (ecg_gym.tissue.judging)

A fit's ``train_error`` and ``validation_error`` (mean squared), ``residual_share``, ``n_parameters``, ``cpu_s``,
``stable`` and ``diagnostics`` (names in ``ecg_gym.tissue.diagnostics.DIAGNOSTICS``) come from the train and validation
protocols alone; an agent may read them all. ``DataSet.truth`` and :func:`held_out_errors` are for the judge.
``(spec.key, data.key)`` names a fit in a cache. ::

    >>> from ecg_gym import tissue
    >>> (data,) = tissue.hearts("ms", [0])
    >>> rows = tissue.fit([tissue.Spec("ms"), tissue.Spec("ap")], [data])
    >>> rows[0][0].validation_error < rows[1][0].validation_error
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecg_gym.tissue.graph import Graph, biventricular, cable, sheet
from ecg_gym.tissue.reactions import REACTIONS, Reaction, reaction
from ecg_gym.tissue.recording import KINDS, SPARSE_KINDS, DataSet, Pacing, Truth
from ecg_gym.tissue.spec import DIFFUSIONS, REGULARISERS, RESIDUALS, WIDTHS, Spec, specs

if TYPE_CHECKING:
    from ecg_gym.tissue.fitting import Fit, FitOptions, fit
    from ecg_gym.tissue.judging import held_out_errors
    from ecg_gym.tissue.synthetic import hearts

__all__ = [
    "DIFFUSIONS", "KINDS", "REACTIONS", "REGULARISERS", "RESIDUALS", "SPARSE_KINDS", "WIDTHS", "DataSet", "Fit",
    "FitOptions", "Graph", "Pacing", "Reaction", "Spec", "Truth", "biventricular", "cable", "fit", "hearts",
    "held_out_errors", "reaction", "sheet", "specs",
]  # fmt: skip

_WITH_TORCH = {
    "Fit": "fitting", "FitOptions": "fitting", "fit": "fitting", "hearts": "synthetic", "held_out_errors": "judging",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names that need torch, imported when first asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module 'ecg_gym.tissue' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ecg_gym.tissue.{_WITH_TORCH[name]}"), name)
