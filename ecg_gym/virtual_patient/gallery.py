"""Twelve-lead pictures of every rhythm and finding the virtual patient knows, on ECG paper, for eyes and documentation.

    python -m ecg_gym.virtual_patient.gallery docs/gallery              # every case, a picture each
    python -m ecg_gym.virtual_patient.gallery docs/some.png normal vt   # some of them, on one sheet

The titles carry the truth of each strip. Needs matplotlib.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import ECG, Patient
from ecg_gym.io import atomic_write
from ecg_gym.pharmacology import exposure, modulate
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient.heart import Heart, draw_heart
from ecg_gym.virtual_patient.strip import synthesise
from ecg_gym.virtual_patient.truth import FINDINGS, Truth
from ecg_gym.waveform.plotting import draw_twelve_leads

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

RATE_HZ = 500.0

# name -> (what differs from an average adult, serum potassium included [mmol/L]; what differs from rest)
CASES: dict[str, tuple[dict[str, Any], Modulation]] = {
    "normal": ({}, REST),
    "sinus_bradycardia": ({"rhythm": "sinus_bradycardia", "rate_bpm": 42.0}, REST),
    "sinus_tachycardia": ({"rhythm": "sinus_tachycardia", "rate_bpm": 115.0}, REST),
    "lbbb": ({"conduction": "lbbb"}, REST),
    "rbbb": ({"conduction": "rbbb"}, REST),
    "bifascicular": ({"conduction": "bifascicular"}, REST),
    "preexcited": ({"conduction": "preexcited"}, REST),
    "av_block_1": ({"rhythm": "av_block_1", "pr_ms": 240.0}, REST),
    "av_block_2": ({"rhythm": "av_block_2", "rate_bpm": 75.0, "pr_ms": 180.0}, REST),
    "av_block_2_mobitz2": ({"rhythm": "av_block_2_mobitz2", "rate_bpm": 75.0, "conduction": "rbbb"}, REST),
    "av_block_3_nodal": ({"rhythm": "av_block_3_nodal", "rate_bpm": 80.0}, REST),
    "av_block_3": ({"rhythm": "av_block_3", "rate_bpm": 80.0}, REST),
    "af_slow": ({"rhythm": "af_slow", "rate_bpm": 62.0}, REST),
    "af": ({"rhythm": "af", "rate_bpm": 88.0}, REST),
    "af_rapid": ({"rhythm": "af_rapid", "rate_bpm": 140.0}, REST),
    "af_preexcited": ({"rhythm": "af_preexcited", "rate_bpm": 190.0, "conduction": "preexcited"}, REST),
    "flutter": ({"rhythm": "flutter", "rate_bpm": 145.0}, REST),
    "flutter_slow": ({"rhythm": "flutter_slow", "rate_bpm": 73.0}, REST),
    "svt": ({"rhythm": "svt", "rate_bpm": 175.0}, REST),
    "pvc": ({"rhythm": "pvc", "rate_bpm": 70.0}, REST),
    "bigeminy": ({"rhythm": "bigeminy", "rate_bpm": 74.0}, REST),
    "couplets": ({"rhythm": "couplets", "rate_bpm": 74.0}, REST),
    "vt_runs": ({"rhythm": "vt_runs", "rate_bpm": 74.0}, REST),
    "vt": ({"rhythm": "vt", "rate_bpm": 165.0}, REST),
    "torsade": ({"rhythm": "torsade", "rate_bpm": 52.0, "qtcf_ms": 540.0}, REST),
    "vf": ({"rhythm": "vf"}, REST),
    "paced": ({"rhythm": "paced", "rate_bpm": 68.0}, REST),
    "old_anterior_infarction": ({"scar": "anterior"}, REST),
    "old_inferior_infarction": ({"scar": "inferior"}, REST),
    "old_lateral_infarction": ({"scar": "lateral"}, REST),
    "acute_anterior_injury": ({"injury": "anterior"}, REST),
    "acute_inferior_injury": ({"injury": "inferior"}, REST),
    "acute_lateral_injury": ({"injury": "lateral"}, REST),
    "hyperkalaemia": ({"potassium": 7.4}, REST),
    "hypokalaemia": ({"potassium": 2.5}, REST),
    "congenital_long_qt": ({"qtcf_ms": 495.0}, REST),
    "acquired_long_qt": ({}, Modulation(jtpeak_ms=40.0, tpeak_tend_ms=40.0, ikr_block=0.4)),
    "poor_quality": ({"noise": 6.0}, REST),
}  # fmt: skip


def average_heart(**changes: Any) -> Heart:
    """An average adult in the default pose and sinus rhythm at 62/min, recorded well, with ``changes``."""
    heart = draw_heart(np.random.default_rng(3), Patient(sex="F"), "sinus", "normal", "", healthy=True)
    usual: dict[str, Any] = {
        "pose": 0, "rate_bpm": 62.0, "pr_ms": 160.0, "qrs_ms": 92.0, "qtcf_ms": 410.0, "tpeak_tend_ms": 75.0,
        "r_gain": 1.0, "t_gain": 1.0, "p_gain": 1.0, "noise": 0.7,
    }  # fmt: skip
    return replace(heart, **{**usual, **changes})


def example(name: str, seed: int = 3) -> tuple[np.ndarray, Truth]:
    """The strip ``(12, 5000)`` [mV] at 500 Hz of one of ``CASES``, and its truth. KeyError for an unknown name."""
    changes, modulation = CASES[name]
    changes = dict(changes)
    potassium = changes.pop("potassium", None)
    heart = average_heart(**changes)
    if potassium is not None:
        patient = Patient(sex="F", potassium=potassium)
        modulation = modulate(exposure((), patient, 0.0), patient)
    return synthesise(heart, modulation, np.random.default_rng(seed), RATE_HZ, potassium=potassium)


def describe(name: str, truth: Truth) -> str:
    """One line: the case, its true intervals and findings."""
    value = truth.intervals
    numbers = ", ".join(f"{word} {value[key]:.0f}" for key, word in _SHOWN.items() if np.isfinite(value[key]))
    result = ", ".join(f for f, present in zip(FINDINGS, truth.findings) if present)
    return f"{name.replace('_', ' ')}   {numbers}   [{result}]"


_SHOWN = {
    "hr_bpm": "HR", "pr_ms": "PR", "qrs_ms": "QRS", "qt_ms": "QT", "qtcf_ms": "QTcF", "jtpeak_ms": "JTp",
    "tpeak_tend_ms": "TpTe",
}  # fmt: skip
_DPI, _COLOURS = 80, 32  # of a picture: small enough to keep forty of them


def save_gallery(folder: Path, names: Sequence[str] = tuple(CASES)) -> list[Path]:
    """The paths of one PNG per case, written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        signal, truth = example(name)
        paths.append(folder / f"{name}.png")
        _save(_picture(draw_twelve_leads(ECG(signal, RATE_HZ), describe(name, truth))), paths[-1])
    return paths


def save_sheet(path: Path, names: Sequence[str], columns: int = 2) -> None:
    """One PNG of several cases side by side."""
    from PIL import Image

    pictures = []
    for name in names:
        signal, truth = example(name)
        pictures.append(_picture(draw_twelve_leads(ECG(signal, RATE_HZ), describe(name, truth))))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(names) // columns) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    _save(sheet, path)


def _picture(figure: Figure) -> Image.Image:
    from PIL import Image

    whole = io.BytesIO()
    figure.savefig(whole, dpi=_DPI, format="png")
    return Image.open(whole).convert("RGB")


def _save(picture: Image.Image, path: Path) -> None:
    """A PNG with few colours, written aside and renamed."""
    with atomic_write(path) as aside:
        picture.quantize(_COLOURS).save(aside, format="png", optimize=True)


if __name__ == "__main__":
    where, *cases = sys.argv[1:] or ["gallery"]
    if cases:
        save_sheet(Path(where), cases)
    else:
        for path in save_gallery(Path(where)):
            print(path)
