"""What is remembered of earlier looks: the sums say what a loop over all looks would say."""

from itertools import pairwise

import numpy as np
import pytest

from ecg_gym.core import Administration, Dose, Patient
from ecg_gym.world_model.conditioning import (
    LEVELS,
    NOISE,
    OBSERVED,
    SUMS,
    Look,
    complete,
    endings,
    exposures,
    feature_names,
    people,
    raw_features,
    unread,
)
from ecg_gym.world_model.memory import beyond, levels, levels_expected, nothing, remembered

DOFETILIDE = (Administration(0.0, Dose("dofetilide", 0.5, "mg", "PO")),)
WHO = (Patient(age_years=60, sex="F"),)
QTCF = LEVELS.index("qtcf_ms")


def look(hours, qtcf=400.0, p=1.0, given=DOFETILIDE):
    row = {"hr_bpm": 60.0, "rr_sd_ms": 20.0, "pr_ms": 160.0 if p else np.nan, "qrs_ms": 90.0, "qt_ms": qtcf,
           "qtcf_ms": qtcf, "jtpeak_ms": 220.0, "jtpeakc_ms": 220.0, "tpeak_tend_ms": qtcf - 310,
           "r_amplitude_mv": 1.0, "t_amplitude_mv": 0.3, "p_present": p, "regular": 1.0}  # fmt: skip
    observed = np.array([[row[name] for name in OBSERVED]])
    return Look(observed, exposures((given,), WHO, np.array([hours])), np.array([hours]), unread(1))


def features(home, last, memory, hours=5.0):
    exposure = exposures((DOFETILIDE,), WHO, np.array([hours]))
    ending = endings((DOFETILIDE,), WHO, last.hours, np.array([hours]))
    raw = raw_features(people(WHO), home, last, memory, exposure, np.array([hours]), ending)
    filled, names = complete(raw, feature_names())
    return dict(zip(names, filled[0]))


def test_the_sums_are_those_of_all_looks_before_the_last():
    looks = [look(0.0, given=()), look(2.0, 425.0), look(3.0, 431.0), look(4.0, 428.0)]
    memory, home = nothing(1), looks[0]
    for last, now in pairwise(looks):
        memory = remembered(memory, home, last, now)
    pairs = [(e[0, QTCF], r[0, QTCF]) for e, r in (beyond(home, one) for one in looks[:-1])]
    sums = memory.reshape(len(SUMS), len(LEVELS))[:, QTCF]
    expected = [sum(e * e for e, _ in pairs), sum(e * r for e, r in pairs), sum(r for _, r in pairs), len(pairs)]
    assert sums == pytest.approx(expected, rel=1e-5)
    values = features(home, looks[-1], memory)
    every = [*pairs, tuple(part[0, QTCF] for part in beyond(home, looks[-1]))]
    slope = sum(e * r for e, r in every) / (sum(e * e for e, _ in every) + 4 * NOISE[QTCF])
    assert values["history.slope.qtcf_ms"] == pytest.approx(slope, rel=1e-4)
    assert values["history.mean.qtcf_ms"] == pytest.approx(np.mean([r for _, r in every]), rel=1e-4)
    assert values["history.count.qtcf_ms"] == 4


def test_another_rhythm_begins_anew():
    home, fibrillating = look(0.0, given=()), look(2.0, p=0.0)
    memory = remembered(nothing(1), home, home, look(1.0))
    assert memory.any()
    assert not remembered(memory, home, look(1.0), fibrillating).any()


def test_what_was_not_measured_adds_nothing():
    home, blurred = look(0.0, given=()), look(1.0, np.nan)
    sums = remembered(nothing(1), home, blurred, look(2.0)).reshape(len(SUMS), -1)
    assert sums[:, QTCF].tolist() == [0, 0, 0, 0]
    assert sums[-1, LEVELS.index("qrs_ms")] == 1


def test_the_rate_is_a_logarithm_and_an_untreated_heart_stays():
    home = look(0.0, given=())
    assert levels(home.observed)[0, 0] == pytest.approx(np.log(60))
    np.testing.assert_allclose(levels_expected(home, home.exposure), levels(home.observed))
