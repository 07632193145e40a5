"""From what pharmacology says (a ``Modulation``) to the parameters of a treated heart: Theta -> Theta_a.

* Repolarisation: theta_T moves with J-Tpeak and b_T grows with Tpeak-Tend; alpha_T is divided by b_T^2, so that a wider
  T is not a taller one, and the height then falls as trials found it to.
* AV delay and atrial conduction: theta_P and b_P.
* Ventricular conduction: theta and b of Q, R and S stretch about the R peak, and T follows the end of the QRS.
* Rate: RR follows the sinus rate, and QT follows RR by Fridericia's law; fixed angles would make QT proportional to RR.

Every gain stands in ``theta.yaml`` with its source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.physiology import mcsharry, parameters
from ecg_gym.physiology.mcsharry import TANGENT_TAIL, P, Q, S, T, Waves

Modulations = Modulation | Sequence[Modulation]


def apply(
    waves: Waves,
    rr_s: np.ndarray,
    after: Modulations,
    before: Modulations = REST,
    rr_after_s: np.ndarray | None = None,
) -> tuple[Waves, np.ndarray]:
    """The waves ``(B, 5)`` and mean RR ``(B,)`` [s] of the same hearts once ``before`` has given way to ``after``.

    ``waves`` are those seen at ``rr_s (B,)`` [s] while ``before`` acted, so only the difference counts: equal
    modulations change nothing. One ``Modulation`` stands for every row. Where ``rr_after_s (B,)`` [s] is finite it is
    the RR to expect, whatever the modulation says of the rate.
    """
    rr_s = np.atleast_1d(np.asarray(rr_s, dtype=float))
    change = Change(before, after, len(rr_s))
    centre, width, height = (x.copy() for x in waves.in_time(rr_s))
    onset, end = mcsharry.qrs_limits_s(centre, width, height)
    pr_s = onset - (centre[:, P] - TANGENT_TAIL * width[:, P])

    centre[:, Q : S + 1] /= change.factor("conduction")[:, None]
    width[:, Q : S + 1] /= change.factor("conduction")[:, None]
    new_onset, new_end = mcsharry.qrs_limits_s(centre, width, height)

    _repolarise(centre, width, height, change, later_s=new_end - end)
    _conduct_atria(centre, width, height, change, pr_s, new_onset)
    new_rr_s = rr_s / change.factor("sinus_rate")
    if rr_after_s is not None:
        new_rr_s = np.where(np.isfinite(rr_after_s), rr_after_s, new_rr_s)
    _follow_rate(centre, width, new_onset, new_rr_s / rr_s)
    return mcsharry.from_times(centre, width, height, new_rr_s), new_rr_s


class Change:
    """The difference between two modulations, per row, one word at a time."""

    def __init__(self, before: Modulations, after: Modulations, n: int) -> None:
        self.before, self.after = as_rows(before, n), as_rows(after, n)

    def factor(self, name: str) -> np.ndarray:
        """after / before of a factor, ``(B,)``."""
        return _column(self.after, name) / _column(self.before, name)

    def seconds(self, name: str) -> np.ndarray:
        """after - before of a time, ``(B,)`` [s]."""
        return 1e-3 * (_column(self.after, name) - _column(self.before, name))


def as_rows(modulations: Modulations, n: int) -> list[Modulation]:
    """``n`` modulations: the one given, for every row, or the ``n`` given."""
    rows = [modulations] * n if isinstance(modulations, Modulation) else list(modulations)
    if len(rows) != n:
        raise ValueError(f"{len(rows)} modulations for {n} hearts; expected one per heart; or pass a single Modulation")
    return rows


def _column(modulations: list[Modulation], name: str) -> np.ndarray:
    return np.array([getattr(m, name) for m in modulations], dtype=float)


def _repolarise(centre: np.ndarray, width: np.ndarray, height: np.ndarray, change: Change, later_s: np.ndarray) -> None:
    """Moves, widens and lowers T in place; ``later_s (B,)`` is how much later the QRS now ends."""
    centre[:, T] += later_s + parameters.value("gains", "t_peak_per_jtpeak") * change.seconds("jtpeak_ms")
    wider_s = change.seconds("tpeak_tend_ms")
    narrowest = parameters.value("gains", "narrowest") * width[:, T]
    width[:, T] = np.maximum(width[:, T] + wider_s / TANGENT_TAIL, narrowest)
    height[:, T] *= np.exp(parameters.value("gains", "log_t_amplitude_per_tpeak_tend") * 1e3 * wider_s)
    height[:, T] *= change.factor("t_amplitude")


def _conduct_atria(
    centre: np.ndarray, width: np.ndarray, height: np.ndarray, change: Change, pr_s: np.ndarray, qrs_onset: np.ndarray
) -> None:
    """Moves, widens and lowers P in place so that PR is ``pr_s (B,)`` plus the added delays before ``qrs_onset``."""
    speed = change.factor("atrial_conduction")
    longer_s = 2 * TANGENT_TAIL * width[:, P] * (1 / speed - 1)
    width[:, P] /= speed
    height[:, P] *= speed
    pr_s = pr_s + change.seconds("pr_ms") + parameters.value("gains", "pr_per_p_width") * longer_s
    centre[:, P] = qrs_onset - pr_s + TANGENT_TAIL * width[:, P]


def _follow_rate(centre: np.ndarray, width: np.ndarray, qrs_onset: np.ndarray, rr_ratio: np.ndarray) -> None:
    """Shifts the end of T in place so that QT scales as RR to Fridericia's exponent."""
    qt_s = centre[:, T] + TANGENT_TAIL * width[:, T] - qrs_onset
    longer_s = qt_s * (rr_ratio ** parameters.value("gains", "qt_rr_exponent") - 1)
    share = parameters.value("gains", "tpeak_tend_rr_share")
    narrowest = parameters.value("gains", "narrowest") * width[:, T]
    centre[:, T] += (1 - share) * longer_s
    width[:, T] = np.maximum(width[:, T] + share * longer_s / TANGENT_TAIL, narrowest)
