"""The endpoints of a trial: what is compared between arms, with its unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.waveform.intervals import JTPEAK_EXPONENT

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Endpoint:
    """How an endpoint comes out of the columns of the table."""

    unit: str
    title: str
    of: Callable[[Mapping[str, np.ndarray]], np.ndarray]  # columns RR, PR, QT, QRS, JTPEAK, TPEAKTEND [ms]


def _rr_s(c: Mapping[str, np.ndarray]) -> np.ndarray:
    return c["RR"] / 1000


ENDPOINTS: dict[str, Endpoint] = {
    "HR": Endpoint("1/min", "heart rate", lambda c: 60 / _rr_s(c)),
    "PR": Endpoint("ms", "PR", lambda c: c["PR"]),
    "QRS": Endpoint("ms", "QRS", lambda c: c["QRS"]),
    "QTcF": Endpoint("ms", "QTcF", lambda c: c["QT"] / np.cbrt(_rr_s(c))),
    "QTcB": Endpoint("ms", "QTcB", lambda c: c["QT"] / np.sqrt(_rr_s(c))),
    "JTpeakc": Endpoint("ms", "J-Tpeak, corrected", lambda c: c["JTPEAK"] / _rr_s(c) ** JTPEAK_EXPONENT),
    "TpTe": Endpoint("ms", "Tpeak-Tend", lambda c: c["TPEAKTEND"]),
}
