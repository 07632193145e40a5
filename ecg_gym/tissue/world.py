"""``HybridTissue``: a World whose ventricles are a fitted tissue and whose rest is the virtual patient.

The tissue decides when a node fires and for how long. Kinetics, rhythm, survival, noise, P wave and lead field are the
virtual patient's own, and so is how an interval is asked of a heart: QRS, J-Tpeak and Tpeak-Tend are calibrated on the
noise-free beat that this tissue shows, so a drug's effect is what the pharmacology says, by the tissue's means:
conduction through the conductances, action potential length through one parameter of the reaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES
from ecg_gym.pharmacology.modulation import REST
from ecg_gym.tissue.default import default_tissue
from ecg_gym.tissue.fitted import FittedTissue
from ecg_gym.virtual_patient.beat_intervals import measured_beats
from ecg_gym.virtual_patient.beat_spectra import KINDS, TERRITORIES, Shapes
from ecg_gym.virtual_patient.beat_targets import targets_of
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.heart_arrays import HeartArrays, stacked
from ecg_gym.virtual_patient.repolarisation import rate_factor
from ecg_gym.virtual_patient.strip_drawing import draw_strips
from ecg_gym.virtual_patient.strip_plan import plan_strips
from ecg_gym.virtual_patient.world import VirtualPatient
from ecg_gym.waveform import measure

ROUNDS = 6  # of correcting a twin by what its noise-free beat shows
READINGS = 3  # of correcting it by what the delineator reads off a strip of it
LONGEST_QRS_MS = 220.0
CLOSE_MS = 0.5
SECONDS = MODEL_SAMPLES / MODEL_RATE_HZ


class HybridTissue(VirtualPatient):
    """The third world. ``tissue`` defaults to the packaged one; :meth:`load` reads a patient's."""

    def __init__(self, dt_hours: float = 1.0, tissue: FittedTissue | None = None) -> None:
        super().__init__(dt_hours)
        self.tissue = default_tissue() if tissue is None else tissue

    @classmethod
    def load(cls, path: str | Path, dt_hours: float = 1.0) -> HybridTissue:
        """The world of the tissue written by :meth:`save` or ``FittedTissue.save``."""
        return cls(dt_hours, FittedTissue.load(path))

    def save(self, path: str | Path) -> None:
        """The tissue as safetensors with a JSON header."""
        assert isinstance(self.tissue, FittedTissue)
        self.tissue.save(path)

    def _personal(self, heart: Heart, intervals: Mapping[str, float]) -> Heart:
        """The twin with this tissue, its conduction, source pattern and action potentials fitted to QRS and QT.

        Above the QRS that a normal beat can show, the pattern of sources is the bundle branch block whose QRS is
        nearest. Conduction and duration are then corrected until the delineator reads the record's intervals.
        """
        heart = replace(heart, tissue=self.tissue)
        qrs, qt, rr_s = (float(intervals[name]) for name in ("qrs_ms", "qt_ms", "rr_ms"))
        rr_s = rr_s / 1000 if np.isfinite(rr_s) else 60 / heart.rate_bpm
        if not np.isfinite(qrs):
            return heart
        choices = ("normal",) if heart.conduction == "normal" else ("lbbb", "rbbb")
        fits = [fit_as_read(replace(heart, conduction=kind), min(qrs, LONGEST_QRS_MS), qt, rr_s) for kind in choices]
        return min(fits, key=lambda pair: pair[1])[0]


def fit_as_read(heart: Heart, qrs_ms: float, qt_ms: float, rr_s: float) -> tuple[Heart, float]:
    """The heart on whose strips the delineator reads these intervals, and the largest difference that is left [ms].

    The noise-free beat is fitted first; then what the delineator reads off a strip of it corrects what is asked.
    """
    best, least = heart, np.inf
    asked_qrs, asked_qt = qrs_ms, qt_ms
    for _ in range(READINGS):
        heart, _ = fit_intervals(heart, asked_qrs, asked_qt, rr_s)
        read = measure(ECG(_strip(heart), MODEL_RATE_HZ)).row(0)
        off_qrs, off_qt = qrs_ms - read["qrs_ms"], qt_ms - read["qt_ms"]
        error = float(np.nanmax([abs(off_qrs), abs(off_qt), 0.0])) if np.isfinite(off_qrs) else np.inf
        if error < least:
            best, least = heart, error
        if not np.isfinite(off_qrs):
            break  # nothing was read: the noise-free fit is as good as it gets
        asked_qrs = float(np.clip(asked_qrs + off_qrs, 40.0, LONGEST_QRS_MS))
        asked_qt = asked_qt + off_qt if np.isfinite(off_qt) else asked_qt
    return best, least


def fit_intervals(heart: Heart, qrs_ms: float, qt_ms: float, rr_s: float) -> tuple[Heart, float]:
    """The heart whose noise-free beat at RR ``rr_s`` [s] shows these intervals, and the largest error left [ms].

    Secant-like corrections: what a beat shows moves nearly one to one with what is asked of it. A QT that is not
    finite is left as it is.
    """
    error = np.inf
    for _ in range(ROUNDS):
        shown_qrs, shown_qt = shown_ms(heart, rr_s)
        off_qrs = qrs_ms - shown_qrs
        off_qt = qt_ms - shown_qt if np.isfinite(qt_ms) else 0.0
        error = max(abs(off_qrs), abs(off_qt))
        if error < CLOSE_MS:
            break
        ratio = heart.qrs_ms / shown_qrs
        heart = replace(
            heart,
            qrs_ms=float(np.clip(heart.qrs_ms + ratio * off_qrs, 40.0, LONGEST_QRS_MS)),
            qtcf_ms=float(np.clip(heart.qtcf_ms + off_qt / np.cbrt(rr_s), 250.0, 700.0)),
        )
    return heart, float(error)


def shown_ms(heart: Heart, rr_s: float) -> tuple[float, float]:
    """QRS and QT [ms] of the heart's noise-free beat at a steady RR [s], with nothing on board."""
    targets = targets_of([heart], REST)
    seat, scar, injury, kind = (
        np.array([code])
        for code in (
            heart.seat,
            TERRITORIES.index(heart.scar),
            TERRITORIES.index(heart.injury),
            KINDS.index(heart.conduction),
        )
    )
    shapes = Shapes(
        seat, scar, injury, kind, np.zeros(1), targets.slowness, targets.phase3_ms, targets.dispersion
    )  # fmt: skip
    beat = measured_beats(shapes, targets.mean_ms * rate_factor(np.array([rr_s]), np.array([rr_s])))
    return float(beat.qrs_ms[0]), float(beat.qt_ms[0])


def _strip(heart: Heart) -> np.ndarray:
    """``(12, 1024)`` [mV]: the same strip of this heart every time."""
    key = np.zeros(1, np.uint64)
    return draw_strips(plan_strips(HeartArrays.of([heart]), stacked([REST]), key, SECONDS), MODEL_RATE_HZ)[0]


__all__ = ["HybridTissue", "fit_intervals"]
