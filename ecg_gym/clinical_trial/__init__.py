"""Virtual drug trials: a protocol in YAML -> people, doses, ECGs -> WFDB records, one table, effects with intervals.

from ecg_gym.clinical_trial import load_protocol, run_trial

result = run_trial(load_protocol("ecgrdvq"), seed=0)
result.summary  # placebo-corrected effects per arm, hour and endpoint: measured beside true
"""

from ecg_gym.clinical_trial.effects import summarise
from ecg_gym.clinical_trial.endpoints import ENDPOINTS
from ecg_gym.clinical_trial.protocol import Arm, ArmDose, Protocol, load_protocol, parse_protocol, shipped_protocols
from ecg_gym.clinical_trial.result import TrialResult
from ecg_gym.clinical_trial.trial import run_trial

__all__ = [
    "ENDPOINTS",
    "Arm",
    "ArmDose",
    "Protocol",
    "TrialResult",
    "load_protocol",
    "parse_protocol",
    "run_trial",
    "shipped_protocols",
    "summarise",
]
