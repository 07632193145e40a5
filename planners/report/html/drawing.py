"""ECGs as SVG, in millimetres of paper: 25 mm/s and 10 mm/mV. Colours are classes, so that a dark page has its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ecg_gym.core import ECG, INDEPENDENT_LEADS, LEADS, MODEL_RATE_HZ
from ecg_gym.waveform.beats import RATE_HZ, Beat, median_beat
from ecg_gym.waveform.plotting import MM_PER_MV, MM_PER_S, ROW_MM, SHEET_MM, STANDARD_LAYOUT
from planners.report.html.markup import Markup, Piece, join, tag

BEAT_LEADS = ("II", "V2", "V5")
BEAT_WINDOW_S = (0.32, 0.62)  # of a typical beat shown, before and behind its R peak
BEAT_ROW_MM = 30.0
QRS_HALF_S, LAG_S = 0.06, 0.04  # what two beats are laid over each other by, and how far they may be moved
EVERY = 4  # samples of a typical beat (500 Hz) to one point of the drawing


def sheet(strip: np.ndarray, alt: str, missing: Sequence[str] = (), rhythm_lead: str = "II") -> Markup:
    """The standard sheet of one strip ``(12, 1024)`` [mV]: three rows of four leads over a rhythm strip."""
    width, height = SHEET_MM
    signal = np.nan_to_num(strip)
    offset = signal - np.median(signal, axis=-1, keepdims=True)
    parts: list[Piece] = [_paper(width, height)]
    for row, names in enumerate((*STANDARD_LAYOUT, (rhythm_lead,))):
        level = ROW_MM * (row + 0.55)
        parts.append(tag("path", d=f"M2 {level:g}h1v-10h5v10h1", class_="trace"))
        piece = 10.0 / len(names)
        for column, lead in enumerate(names):
            first, last = (round(edge * piece * MODEL_RATE_HZ) for edge in (column, column + 1))
            left = 10 + first / MODEL_RATE_HZ * MM_PER_S
            if lead in missing:
                parts.append(tag("path", d=f"M{left:.1f} {level:g}h{piece * MM_PER_S:.1f}", class_="off"))
            else:
                trace = offset[LEADS.index(lead), first:last]
                parts.append(tag("path", d=_line(trace, left, level, MM_PER_S / MODEL_RATE_HZ), class_="trace"))
            name = f"{lead} (missing)" if lead in missing else lead
            parts.append(
                tag("text", name, x=f"{11.5 + column * piece * MM_PER_S:g}", y=f"{level - 10:g}", class_="lead")
            )
    parts.append(tag("text", "25 mm/s  10 mm/mV", x=width - 1.5, y=height - 1.5, class_="scale end"))
    return picture(width, height, alt, parts, "sheet")


def rhythm(strip: np.ndarray, alt: str, lead: str = "II", seconds: float = 10.0) -> Markup:
    """One lead of one strip on a band of paper."""
    n = round(seconds * MODEL_RATE_HZ)
    width, height, level = np.ceil(seconds * MM_PER_S / 5) * 5, 25.0, 15.0
    trace = np.nan_to_num(strip[LEADS.index(lead)])
    trace = (trace - np.median(trace))[:n]
    samples = tag("path", d=_line(np.clip(trace, -1.2, 1.7), 0, level, MM_PER_S / MODEL_RATE_HZ), class_="trace")
    return picture(width, height, alt, [_paper(width, height), samples, _label(lead, 1.5, 4)], "rhythm")


def beats(before: np.ndarray, futures: np.ndarray, alt: str) -> Markup:
    """Typical beats in three leads, before (ink) and in each future (colour), aligned at R.

    ``before (12, 1024)`` and ``futures (K, 12, 1024)`` [mV]. A future without a typical beat
    (torsade, fibrillation, or not finite) is drawn as a piece of the raw strip.
    """
    reach = [round(s * RATE_HZ) for s in BEAT_WINDOW_S]
    panel = np.ceil(sum(BEAT_WINDOW_S) * MM_PER_S) + 2
    width = panel * len(BEAT_LEADS) - 2
    strips = np.concatenate([before[None], futures])
    result = median_beat(ECG(np.nan_to_num(strips), MODEL_RATE_HZ))
    rows = [_window(beat, strip, reach, result[0]) for beat, strip in zip(result, strips)]
    parts: list[Piece] = [_paper(width, BEAT_ROW_MM)]
    for column, lead in enumerate(BEAT_LEADS):
        left = column * panel
        for kind, waves in [*(("future" if beat else "future raw", w) for beat, w in zip(result[1:], rows[1:])),
                            ("trace", rows[0])]:  # fmt: skip
            trace = np.clip(waves[INDEPENDENT_LEADS.index(lead)], -1.1, 1.9)
            parts.append(tag("path", d=_line(trace, left, 19.5, EVERY / RATE_HZ * MM_PER_S), class_=kind))
        parts.append(_label(lead, left + 1, 4))
    return picture(width, BEAT_ROW_MM, alt, parts, "beats")


def picture(width: float, height: float, alt: str, parts: Sequence[Piece], kind: str) -> Markup:
    """An SVG of this size in its own units, with a text for those who cannot see it."""
    return tag(
        "svg", tag("title", alt), *parts, viewBox=f"0 0 {width:g} {height:g}", role="img", class_=f"ecg {kind}",
        preserveAspectRatio="xMinYMin meet",
    )  # fmt: skip


def paper_patterns() -> Markup:
    """The grids that every picture of the page refers to: fine lines every millimetre, coarse ones every five."""
    fine = tag("pattern", tag("path", d="M1 0H0V1", class_="fine"), id="mm", width=1, height=1,
               patternUnits="userSpaceOnUse")  # fmt: skip
    coarse = tag("pattern", tag("path", d="M5 0H0V5", class_="coarse"), id="mm5", width=5, height=5,
                 patternUnits="userSpaceOnUse")  # fmt: skip
    return tag("svg", tag("defs", fine, coarse), width=0, height=0, aria_hidden="true", class_="patterns")


def _window(beat: Beat | None, strip: np.ndarray, reach: Sequence[int], like: Beat | None) -> np.ndarray:
    """``(8, n)`` [mV] on every fourth sample of 500 Hz, its QRS laid over that of ``like``."""
    if beat is not None:
        r = beat.r + (0 if like is None else _lag(beat, like))
        return beat.signal[:, r - reach[0] : r + reach[1] : EVERY]
    rows = np.nan_to_num(strip[[LEADS.index(lead) for lead in INDEPENDENT_LEADS]])
    at = np.arange(0, sum(reach), EVERY) / RATE_HZ * MODEL_RATE_HZ
    return np.stack([np.interp(at, np.arange(rows.shape[-1]), row - np.median(row)) for row in rows])


def _lag(beat: Beat, like: Beat) -> int:
    """Samples by which the QRS of a typical beat comes later than another's: R may be found on another of its peaks."""
    half, most = round(QRS_HALF_S * RATE_HZ), round(LAG_S * RATE_HZ)
    fixed = like.signal[:, like.r - half : like.r + half]
    lags = range(-most, most + 1)
    differs = [((beat.signal[:, beat.r + lag - half : beat.r + lag + half] - fixed) ** 2).sum() for lag in lags]
    return lags[int(np.argmin(differs))]


def _paper(width: float, height: float) -> Markup:
    return join(
        tag("rect", width=f"{width:g}", height=f"{height:g}", class_=kind, fill=fill)
        for kind, fill in (("paper", None), ("grid", "url(#mm)"), ("grid", "url(#mm5)"))
    )


def _label(lead: str, x: float, y: float) -> Markup:
    return tag("text", lead, x=f"{x:g}", y=f"{y:g}", class_="lead")


def _line(trace: np.ndarray, left: float, level: float, dx: float) -> str:
    """A path through one trace [mV] in millimetres, by relative moves: half the bytes of absolute ones."""
    x = np.round((left + dx * np.arange(len(trace))) * 100).astype(int)
    y = np.round((level - MM_PER_MV * trace) * 100).astype(int)
    moves = " ".join(f"{_hundredths(a)} {_hundredths(b)}" for a, b in zip(np.diff(x), np.diff(y)))
    return f"M{x[0] / 100:g} {y[0] / 100:g}l{moves}".replace(" -", "-")


def _hundredths(n: int) -> str:
    """7 as .07, -130 as -1.3: the fewest characters."""
    text = f"{n / 100:.2f}".rstrip("0").rstrip(".") if n else "0"
    return re.sub(r"^(-?)0\.", r"\1.", text)
