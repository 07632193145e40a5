"""Drug intervention on the electrocardiogram. Research only, never bedside."""

from ecg_gym.checks import check_world
from ecg_gym.core import ECG, LEADS, WATCH, Administration, Dose, Patient, State, Treatment, World
from ecg_gym.registration import register

__version__ = "0.2.0"
__all__ = [
    "ECG",
    "LEADS",
    "WATCH",
    "Administration",
    "Dose",
    "Patient",
    "State",
    "Treatment",
    "World",
    "__version__",
    "check_world",
]

register()  # the ids of gymnasium.make; string entry points, so nothing heavy is loaded
