"""Bands that cover what they promise: samples of the world model, widened by what was missed on other patients.

Split conformal prediction (Papadopoulos 2002; for quantile bands Romano 2019): on patients that trained nothing, see by
how much of its own width each band would have had to be wider to hold the truth; the right quantile of that is added
to every later band. Covers on average over new patients of the same population whatever the model is worth; a bad model
gets wide bands. It promises nothing for one person or for one drug.

    calibration = Calibration.load(beside(weights))
    low, high = calibration.apply("qtcf_ms", samples)  # of the change, (K, N) -> (N,), (N,)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import write_json

FORMAT = 1  # raise it when a reader of the old form would misread the new one
LEVEL = 0.9
FLOOR = 0.1  # of the median width: a band without width can still be widened
RISK = "risk"  # is itself a quantity, from 0 to 1; the others are changes of intervals


@dataclass(frozen=True)
class Band:
    """The correction of one quantity's bands, as fitted."""

    widen: (
        float  # on either side, in widths of the raw band (its floor included); negative: the raw bands were too wide
    )
    floor: float  # added to the width before it is multiplied [unit of the quantity]
    n: int  # questions it was fitted on
    n_patients: int
    raw_coverage: float  # of the raw bands, on those


@dataclass(frozen=True)
class Calibration:
    """Corrections by quantity, and whose: which weights they belong to and who they were fitted on."""

    level: float
    model_sha256: str
    bands: Mapping[str, Band]
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, name: str, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corrected band ``(N,), (N,)`` of a quantity out of its samples ``(K, N)``; NaN where half of them are.

        ``name`` is an interval ("qtcf_ms": samples of its change over the step) or "risk". Raises ValueError for a
        quantity that was not fitted.
        """
        if name not in self.bands:
            raise ValueError(
                f"quantity is {name!r}; expected one of {sorted(self.bands)}; fit it with "
                "`ecg-gym study calibration --fit`"
            )
        return apply_band(self.bands[name], samples, self.level, (0.0, 1.0) if name == RISK else None)

    def save(self, path: str | Path) -> None:
        """Write as JSON, aside and renamed."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path, model_sha256: str | None = None) -> Calibration:
        """What :meth:`save` wrote; ValueError if it cannot be read or is not of the weights ``model_sha256``."""
        try:
            inputs = json.loads(Path(path).read_text(encoding="utf-8"))
            if inputs.pop("format") != FORMAT:
                raise ValueError("another format")
            bands = {name: Band(**band) for name, band in inputs.pop("bands").items()}
            result = cls(bands=bands, **inputs)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}); expected a calibration of format {FORMAT}; fit it again with "
                "`ecg-gym study calibration --fit`"
            ) from None
        if model_sha256 is not None and result.model_sha256 != model_sha256:
            raise ValueError(
                f"{path} belongs to the weights {result.model_sha256[:12]}...; expected {model_sha256[:12]}...; bands "
                "of one model say nothing about another: fit it again with `ecg-gym study calibration --fit`"
            )
        return result


def beside(weights: str | Path) -> Path:
    """Where the calibration of a file of weights lies: ``world_model.calibration.json`` beside it."""
    return Path(weights).with_suffix(".calibration.json")


def raw_band(samples: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Central band ``(N,), (N,)`` of samples ``(K, N)``; NaN where fewer than half of them are known.

    Quantiles are taken at (K + 1) p (Weibull 1939), which makes the coverage of a perfect forecaster ``level`` for any
    K that can hold it: 19 samples for 90 %. Fewer give their range, which covers (K - 1)/(K + 1).
    """
    samples = np.asarray(samples, dtype=float)
    k = len(samples)
    if samples.ndim != 2 or k < 2 or not 0 < level < 1:
        raise ValueError(
            f"samples have shape {samples.shape} and level is {level}; expected (K, N) with K of at least 2, and a "
            "level within (0, 1); draw more samples"
        )
    finite = np.isfinite(samples)
    count = finite.sum(axis=0)
    ordered = np.sort(np.where(finite, samples, np.inf), axis=0)
    low, high = (_order_statistic(ordered, count, p) for p in ((1 - level) / 2, (1 + level) / 2))
    enough = (count >= 2) & (count >= k / 2)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def fit_band(samples: np.ndarray, truth: np.ndarray, patients: np.ndarray | None = None, level: float = LEVEL) -> Band:
    """The correction of bands from samples ``(K, N)`` so that they hold ``truth (N,)`` with probability ``level``.

    ``patients (N,)`` only counts how many people there were; the promise is exact with one row each. Raises ValueError
    with fewer rows than the level needs (9 for 90 %).
    """
    low, high = raw_band(samples, level)
    ok = np.isfinite(low) & np.isfinite(truth)
    n = int(ok.sum())
    if n < level / (1 - level) - 1e-9:
        raise ValueError(
            f"{n} questions have samples and a truth; expected at least {level / (1 - level):.0f} for bands of "
            f"{level:.0%}; ask more patients"
        )
    low, high, truth = low[ok], high[ok], np.asarray(truth, dtype=float)[ok]
    floor = FLOOR * float(np.median(high - low))
    missed = np.maximum(low - truth, truth - high)
    width = high - low + floor
    score = np.sort(np.divide(missed, width, out=np.where(missed > 0, np.inf, 0.0), where=width > 0))
    widen = score[min(n, int(np.ceil((n + 1) * level))) - 1]
    if not np.isfinite(widen):
        raise ValueError(
            "more than a tenth of the samples have no spread and miss the truth; expected samples that differ; "
            "no factor widens nothing"
        )
    people = n if patients is None else len(np.unique(np.asarray(patients)[ok]))
    return Band(float(widen), floor, n, people, float((missed <= 0).mean()))


def apply_band(
    band: Band, samples: np.ndarray, level: float = LEVEL, limits: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Corrected band ``(N,), (N,)`` of samples ``(K, N)``, cut at ``limits``; never beyond its own middle."""
    low, high = raw_band(samples, level)
    more = band.widen * (high - low + band.floor)
    middle = (low + high) / 2
    low, high = np.minimum(low - more, middle), np.maximum(high + more, middle)
    return (low, high) if limits is None else (np.clip(low, *limits), np.clip(high, *limits))


def covers(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 where the band holds the truth, 0 where it does not, NaN where either is unknown; shapes broadcast."""
    low, high, truth = np.broadcast_arrays(low, high, truth)
    finite = np.isfinite(low) & np.isfinite(high) & np.isfinite(truth)
    return np.where(finite, (low <= truth) & (truth <= high), np.nan)


def _order_statistic(ordered: np.ndarray, count: np.ndarray, p: float) -> np.ndarray:
    """Value ``(N,)`` at place ``(count + 1) p`` of columns whose first ``count (N,)`` rows are sorted; interpolated."""
    place = np.clip((count + 1) * p, 1, np.maximum(count, 1)) - 1
    below = np.floor(place + 1e-9).astype(int)
    above = np.minimum(below + 1, np.maximum(count, 1) - 1)
    columns = np.arange(ordered.shape[1])
    start, end = ordered[below, columns], ordered[above, columns]
    share = np.clip(place - below, 0, 1)
    with np.errstate(invalid="ignore"):
        return np.where(share > 0, start + share * (end - start), start)
