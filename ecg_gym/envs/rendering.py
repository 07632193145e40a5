"""What a person sees of an episode: the strip on ECG paper with the doses given, or one line."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ
from ecg_gym.envs.episode import Episode, Outcome

SHOWN = (("hr_bpm", "HR", "bpm"), ("pr_ms", "PR", "ms"), ("qrs_ms", "QRS", "ms"), ("qtcf_ms", "QTcF", "ms"))
WIDTH_INCHES, HEIGHT_INCHES, DPI = 12.0, 8.0, 80


def line(episode: Episode, outcome: Outcome | None = None, row: int = 0) -> str:
    """One line: hours, intervals ("-" where not measurable), risk, and what was given last."""
    now = {name: values[row] for name, values in episode.now.items()}
    words = [f"{episode.state.hours[row]:5.1f} h"]
    words += [f"{short} {now[name]:.0f} {unit}" for name, short, unit in SHOWN if np.isfinite(now[name])]
    words += [f"{short} -" for name, short, _ in SHOWN if not np.isfinite(now[name])]
    words.append(f"risk {now['risk']:.2f}")
    if outcome is not None:
        words.append(f"{outcome.given[row]}{' (the chosen one is not allowed)' if outcome.refused[row] else ''}")
    if not episode.state.alive[row]:
        words.append("lethal rhythm")
    return "  ".join(words)


def picture(episode: Episode, outcome: Outcome | None = None, row: int = 0) -> np.ndarray:
    """The 12 leads on ECG paper with intervals and doses above, ``(H, W, 3)`` uint8. No display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ecg_gym.waveform.plotting import draw_strip

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0.02, 0.03, 0.96, 0.83))
    draw_strip(ax, ECG(np.nan_to_num(episode.state.ecg[row]), MODEL_RATE_HZ))
    figure.text(0.02, 0.955, line(episode, outcome, row), fontsize=11, family="monospace", va="center")
    figure.text(0.02, 0.905, doses(episode, row), fontsize=9, va="center", color="0.25")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def doses(episode: Episode, row: int = 0, most: int = 6) -> str:
    """The last doses taken and when, in words."""
    taken = episode.state.taken[row]
    if not taken:
        return "no doses so far"
    words = [f"{a.dose} at {a.hours:g} h" for a in taken[-most:]]
    return "given: " + "; ".join(["..."] * (len(taken) > most) + words)
