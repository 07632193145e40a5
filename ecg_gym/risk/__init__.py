"""How dangerous a strip is: interval limits and 17 findings, two channels and one number. Research only."""

from ecg_gym.risk.aggregate import AGGREGATES, FINDINGS
from ecg_gym.risk.limits import LIMITS, PRESSURE, Limit, interval_terms, pressure_term
from ecg_gym.risk.model import Risk, RiskModel
from ecg_gym.risk.source import FindingsSource

__all__ = [
    "AGGREGATES",
    "FINDINGS",
    "LIMITS",
    "PRESSURE",
    "FindingsSource",
    "Limit",
    "Risk",
    "RiskModel",
    "interval_terms",
    "pressure_term",
]
