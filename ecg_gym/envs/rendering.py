"""What a person sees of an episode: the strip on ECG paper with the doses given, or one line."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ
from ecg_gym.envs.episode import Episode, Outcome

SHOWN = (("hr_bpm", "HR", "bpm"), ("pr_ms", "PR", "ms"), ("qrs_ms", "QRS", "ms"), ("qtcf_ms", "QTcF", "ms"))
DPI = 90


def line(episode: Episode, outcome: Outcome | None = None, row: int = 0) -> str:
    """One line: hours, intervals ("-" where not measurable), risk, and what was given last."""
    now = {name: values[row] for name, values in episode.now.items()}
    words = [f"{episode.state.hours[row]:5.1f} h"]
    for name, short, unit in SHOWN:
        words.append(f"{short} {now[name]:.0f} {unit}" if np.isfinite(now[name]) else f"{short} -")
    words.append(f"risk {now['risk']:.2f}")
    if outcome is not None:
        words.append(f"{outcome.given[row]}{' (the chosen one is not allowed)' if outcome.refused[row] else ''}")
    if not episode.state.alive[row]:
        words.append("lethal rhythm")
    return "  ".join(words)


def picture(episode: Episode, outcome: Outcome | None = None, row: int = 0) -> np.ndarray:
    """The 12 leads on ECG paper with intervals above and doses below, ``(H, W, 3)`` uint8. No display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from ecg_gym.waveform.plotting import draw_twelve_leads

    strip = ECG(np.nan_to_num(episode.state.ecg[row]), MODEL_RATE_HZ)
    figure = draw_twelve_leads(strip, title=line(episode, outcome, row))
    figure.set_dpi(DPI)
    figure.text(0.012, 0.024, doses(episode, row), fontsize=7, va="center")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def doses(episode: Episode, row: int = 0, most: int = 4) -> str:
    """The last doses taken and when, in words."""
    taken = episode.state.taken[row]
    if not taken:
        return "no doses so far"
    words = [f"{a.dose} at {a.hours:g} h" for a in taken[-most:]]
    return "given: " + "; ".join(["..."] * (len(taken) > most) + words)
