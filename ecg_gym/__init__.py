"""Drug intervention on the electrocardiogram. Research only, never bedside."""

from ecg_gym.core import ECG, LEADS, WATCH, Administration, Dose, Patient, State, Treatment, World

__version__ = "0.1.0"
__all__ = ["ECG", "LEADS", "WATCH", "Administration", "Dose", "Patient", "State", "Treatment", "World", "__version__"]
