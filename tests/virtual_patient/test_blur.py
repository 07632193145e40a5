"""Readings of a world that knows no heart, as harder views would have them."""

import numpy as np

from ecg_gym.look import READ, Look
from ecg_gym.virtual_patient.blur import blur
from ecg_gym.virtual_patient.readings import VIEWS, errors

N = 4000


def clean(n=N):
    row = {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 95.0, "qt_ms": 390.0, "qtcf_ms": 410.0, "jtpeakc_ms": 225.0,
           "tpeak_tend_ms": 85.0, "r_amplitude_mv": 1.2, "t_amplitude_mv": 0.3, "p_present": 1.0, "regular": 1.0,
           "n_beats": 12.0, "map_mmhg": 93.0}  # fmt: skip
    return Look(np.repeat([[row[name]] for name in READ], n, axis=1), np.full((17, n), 0.1))


def test_the_clean_view_changes_nothing():
    look = clean(5)
    again = blur(look, np.zeros(5, int), np.arange(5, dtype=np.uint64))
    np.testing.assert_allclose(again["qrs_ms"], look["qrs_ms"])
    np.testing.assert_allclose(again.probabilities, look.probabilities)
    np.testing.assert_array_equal(again["map_mmhg"], look["map_mmhg"])


def test_a_noisy_view_errs_by_as_much_more_as_was_measured():
    view = VIEWS.index("noisy")
    noisy = blur(clean(), np.full(N, view), np.arange(N, dtype=np.uint64))
    table, off = errors(), noisy["qrs_ms"] - 95.0
    square = table.person**2 + table.strip**2
    from ecg_gym.virtual_patient.columns import words

    group = words()["rhythm"].index("sinus") * 3
    more = np.sqrt(max(0.0, square[view, group, 2] - square[0, group, 2]))
    bias = table.bias[view, group, 2] - table.bias[0, group, 2]
    assert abs(np.nanstd(off) - more) < 0.1 * more + 0.05
    assert abs(np.nanmean(off) - bias) < 0.1 * more + 0.05


def test_a_strip_reads_the_same_again_and_others_differ():
    view, keys = np.full(3, VIEWS.index("two leads")), np.array([5, 6, 5], np.uint64)
    rows = blur(clean(3), view, keys).intervals
    np.testing.assert_array_equal(rows[:, 0], rows[:, 2])
    assert not np.array_equal(rows[:, 0], rows[:, 1], equal_nan=True)
