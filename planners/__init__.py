"""Planners: which treatment, given a world that says what each would do. Lower S is better; research only."""

from planners.exhaustive import plan
from planners.plan import Candidate, Change, Excluded, Plan, Preference

__all__ = ["Candidate", "Change", "Excluded", "Plan", "Preference", "plan"]
