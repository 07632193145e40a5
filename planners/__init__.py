"""Planners: which treatment, given a world that says what each would do. Lower S is better. Research only."""

from planners.base import PlanInfo, Planner
from planners.checks import check_planner
from planners.decision import Candidate, Change, Excluded, Plan, Preference
from planners.exhaustive import plan
from planners.policies import BestConstant, ExhaustivePlanner, RandomPlanner, WatchAndWait

__all__ = [
    "BestConstant",
    "Candidate",
    "Change",
    "Excluded",
    "ExhaustivePlanner",
    "Plan",
    "PlanInfo",
    "Planner",
    "Preference",
    "RandomPlanner",
    "WatchAndWait",
    "check_planner",
    "plan",
]
