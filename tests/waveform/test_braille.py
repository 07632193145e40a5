"""One lead as braille: the dots stand where the trace is."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG, LEADS
from ecg_gym.waveform.braille import RANGE_MV, braille

RATE = 40.0  # 200 samples in 5 s: one to each column of dots


def dots(lines: list[str]) -> np.ndarray:
    """The picture as booleans (4 rows, 2 columns per character), decoded by Unicode's own numbering of the dots."""
    places = {0: (0, 0), 1: (1, 0), 2: (2, 0), 3: (0, 1), 4: (1, 1), 5: (2, 1), 6: (3, 0), 7: (3, 1)}
    picture = np.zeros((4 * len(lines), 2 * len(lines[0])), bool)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            for bit, (down, right) in places.items():
                picture[4 * row + down, 2 * column + right] = bool((ord(character) - 0x2800) >> bit & 1)
    return picture


def strip(trace: np.ndarray, missing: tuple[str, ...] = ()) -> ECG:
    signal = np.zeros((12, len(trace)))
    signal[LEADS.index("II")] = trace
    return ECG(signal, RATE, missing)


def test_a_flat_line_is_one_row_of_dots() -> None:
    lines, height = braille(strip(np.full(200, 3.3)))
    picture = dots(lines)
    assert picture.shape == (16, 200)
    rows = np.flatnonzero(picture.any(axis=1))
    low, high = RANGE_MV
    assert rows.tolist() == [round(high / (high - low) * 15)]
    assert picture[rows[0]].all()
    assert height == (high - low) / 4


def test_a_spike_reaches_the_top_and_is_joined_to_the_line() -> None:
    trace = np.zeros(200)
    trace[100] = 2.0
    picture = dots(braille(strip(trace))[0])
    assert picture[0, 100]
    base = int(np.flatnonzero(picture[:, 0])[0])
    assert picture[: base + 1, 100].all(), "no gap between the line and its peak"
    assert not picture[0, :99].any()


def test_a_slow_wave_rises_and_falls_where_it_should() -> None:
    trace = np.sin(2 * np.pi * np.arange(200) / 200)
    picture = dots(braille(strip(trace))[0])
    top = np.argmax(picture, axis=0)
    assert top[50] < top[0] < top[150]


def test_what_is_missing_or_not_finite_is_blank() -> None:
    for ecg in (strip(np.ones(200), ("II",)), strip(np.full(200, np.nan))):
        lines, height = braille(ecg)
        assert not dots(lines).any()
        assert np.isnan(height)


def test_seconds_are_cut_off_and_columns_are_kept() -> None:
    trace = np.concatenate([np.zeros(200), np.full(200, 9.0)])
    lines, _ = braille(strip(trace), seconds=5.0, columns=30, rows=2)
    assert [len(line) for line in lines] == [30, 30]
    assert np.flatnonzero(dots(lines).any(axis=1)).size == 1
