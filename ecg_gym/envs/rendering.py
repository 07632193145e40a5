"""What a person sees of an episode: one line, or the strip on ECG paper over a chart of doses and trends.

Both show what an agent may know (``episode.sights``), not what is true: noise, leads that are off and delays included.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, Patient
from ecg_gym.envs.chart import INK, Moment, draw_chart
from ecg_gym.envs.episode import Episode, Outcome

SHOWN = (("hr_bpm", "HR", "bpm"), ("pr_ms", "PR", "ms"), ("qrs_ms", "QRS", "ms"), ("qtcf_ms", "QTcF", "ms"))
DPI = 100
FRAME = (1280, 976)  # [pixels] width and height; even, as video codecs want them
HOURS = 8.0  # of the time axis that are always shown, so that the frames of one episode look alike
SHEET_PIXELS = 600  # height of the part with the strip


def line(episode: Episode, outcome: Outcome | None = None, row: int = 0) -> str:
    """One line: hours, intervals ("-" where not measurable), risk, and what was given last."""
    now = {name: values[row] for name, values in episode.now.items()}
    words = [f"{episode.state.hours[row]:5.1f} h"]
    for name, short, unit in SHOWN:
        words.append(f"{short} {now[name]:.0f} {unit}" if np.isfinite(now[name]) else f"{short} -")
    words.append(f"risk {now['risk']:.2f}")
    if outcome is not None:
        words.append(f"{outcome.treatments[row]}{' (the chosen one is not allowed)' if outcome.refused[row] else ''}")
    if not episode.state.alive[row]:
        words.append("lethal rhythm")
    return "  ".join(words)


def picture(episode: Episode, outcome: Outcome | None = None, row: int = 0) -> np.ndarray:
    """The 12 leads on ECG paper over a chart of doses and trends: ``(H, W, 3)`` uint8, ``FRAME``. Needs no display."""
    return frame(episode, outcome, row, history(episode, row))


def frame(
    episode: Episode, outcome: Outcome | None, row: int, moments: Sequence[Moment], hours: float = HOURS
) -> np.ndarray:
    """:func:`picture` with a trend of your own over a time axis of at least ``hours``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ecg_gym.waveform.plotting import SCALE, SHEET_MM, draw_sheet

    width, height = FRAME
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    halves = figure.add_gridspec(2, 1, height_ratios=(SHEET_PIXELS, height - SHEET_PIXELS))
    sheet, chart = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    strip = newest_strip(episode, row)
    tall = width * 0.984 * SHEET_MM[1] / SHEET_MM[0] / SHEET_PIXELS
    draw_sheet(sheet.add_axes((0.008, 0.005, 0.984, tall)), strip)
    above = (1 + tall) / 2 + 0.002
    sheet.text(0.010, above, _situation(episode, outcome, row), fontsize=11, va="center", color=INK)
    sheet.text(0.990, above, f"{SCALE}   research only", fontsize=8, va="center", ha="right", color=INK)
    until = max(hours, float(episode.state.hours[row]))
    draw_chart(chart, moments, episode.state.doses[row], until, episode.state.patients[row].sex)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def newest_strip(episode: Episode, row: int = 0) -> ECG:
    """The newest strip that was seen, with the leads that were off."""
    sight = episode.sights[row][-1]
    return ECG(np.nan_to_num(sight.ecg), MODEL_RATE_HZ, tuple(lead for lead in LEADS if lead in sight.missing))


def history(episode: Episode, row: int = 0) -> tuple[Moment, ...]:
    """What can be read off each strip that was seen, oldest first."""
    return tuple(
        Moment(s.hours, {**_intervals(np.ascontiguousarray(s.ecg, np.float32).tobytes(), s.ecg.shape), "risk": s.risk})
        for s in episode.sights[row]
    )


@lru_cache(maxsize=256)
def _intervals(strip: bytes, shape: tuple[int, ...]) -> dict[str, float]:
    """The intervals of one strip float32 [mV]; a film measures every strip once."""
    from ecg_gym.waveform import measure

    read = measure(ECG(np.frombuffer(strip, np.float32).reshape(shape), MODEL_RATE_HZ)).row(0)
    return {name: float(value) for name, value in read.items()}


def _situation(episode: Episode, outcome: Outcome | None, row: int) -> str:
    """Who, when, and what was done last."""
    words = [_person(episode.state.patients[row]), f"{episode.state.hours[row]:g} h"]
    if outcome is not None:
        words.append(
            f"given: {outcome.treatments[row]}" + (" (the chosen one is not allowed)" if outcome.refused[row] else "")
        )
    if (rows := episode.sights[row][-1].hours) < episode.state.hours[row]:
        words.append(f"strip of {rows:g} h")
    if not episode.state.alive[row]:
        words.append("LETHAL RHYTHM")
    return "     ".join(word for word in words if word)


def _person(patient: Patient) -> str:
    """Age, sex and potassium, as far as they are known."""
    parts = ["" if patient.age_years is None else f"{patient.age_years:.0f} y", patient.sex or ""]
    parts.append("" if patient.potassium is None else f"K {patient.potassium:.1f} mmol/L")
    return ", ".join(part for part in parts if part) or "patient unknown"
