"""What the population expects of a treatment, distances between effects, and projection onto the menu."""

from __future__ import annotations

import numpy as np
import pytest
from planning import start

from ecg_gym.core import Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import OBSERVED
from planners.proposers.effects import EFFECTS, effects, expected, limit_risk, mahalanobis, project

READ = {"hr_bpm": 80.0, "pr_ms": 160.0, "qrs_ms": 92.0, "qt_ms": 370.0, "qtcf_ms": 410.0, "jtpeak_ms": 230.0,
        "jtpeakc_ms": 250.0, "tpeak_tend_ms": 80.0, "p_present": 1.0, "regular": 1.0}  # fmt: skip
OBSERVED_ROW = np.array([READ.get(name, np.nan) for name in OBSERVED])


def treatment(words: str) -> Treatment:
    return Treatment((FORMULARY.check(parse_dose(words), start().patients[0]),))


MENU = [
    treatment(words)
    for words in ("metoprolol 50 mg PO", "dofetilide 0.5 mg PO", "quinidine 400 mg PO", "moxifloxacin 400 mg PO")
]


def test_drugs_do_what_they_are_known_for() -> None:
    changes = dict(zip(("metoprolol", "dofetilide"), effects(expected(start(), OBSERVED_ROW, MENU, 2.0), OBSERVED_ROW)))
    assert changes["metoprolol"][EFFECTS.index("hr_bpm")] < -3
    assert changes["dofetilide"][EFFECTS.index("qtcf_ms")] > 10


def test_what_is_not_measured_has_no_effect_and_the_risk_follows_the_limits() -> None:
    blind = np.where(np.array(OBSERVED) == "qtcf_ms", np.nan, OBSERVED_ROW)
    after = expected(start(), blind, MENU, 2.0)
    assert (effects(after, blind)[:, EFFECTS.index("qtcf_ms")] == 0).all()
    seen = expected(start(), OBSERVED_ROW, MENU, 2.0)
    risk = limit_risk(start(), OBSERVED_ROW, seen)
    assert ((risk >= 0) & (risk <= 1)).all()
    assert risk[1] > risk[0], "a longer QT is a higher risk"


def test_distances_are_those_of_the_standardised_plane() -> None:
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    points = np.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0]])
    white = np.linalg.cholesky(np.linalg.inv(covariance)).T
    goal = np.array([1.0, 1.0])
    np.testing.assert_allclose(mahalanobis(points, goal, covariance), np.linalg.norm((points - goal) @ white.T, axis=1))


def test_projection_is_the_identity_on_the_menu_and_then_goes_by_effect() -> None:
    changes = np.array([[-10.0, 0.0], [0.0, 20.0], [1.0, 18.0], [0.0, 0.0]])
    assert project(MENU[1], MENU, changes, np.eye(2)) == [MENU[1], MENU[2], MENU[3], MENU[0]]
    with pytest.raises(ValueError):
        project(treatment("atropine 1 mg IV"), MENU, changes, np.eye(2))
