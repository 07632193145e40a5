"""Planners: which treatment, given a world that says what each would do. Lower S is better. Research only."""

from planners.abstention import Abstention, DeferringPlanner, SelectiveRisk, selective_risk
from planners.adaptive import AdaptivePlanner, plan_adaptively
from planners.base import PlanInfo, Planner
from planners.belief import Belief, Believed
from planners.checks import check_planner
from planners.decision import Candidate, Change, Excluded, Plan, Preference
from planners.exhaustive import plan
from planners.guideline import GuidelinePlanner
from planners.learned import PolicyPlanner
from planners.measures import CVaR, Entropic, Exceedance, MeanVariance, Measure, measure_named
from planners.policies import BestConstant, ExhaustivePlanner, RandomPlanner, WatchAndWait
from planners.searches import Beam, CrossEntropy, RandomShooting
from planners.sequences import (
    BeamPlanner,
    CEMPlanner,
    RandomShootingPlanner,
    RecedingHorizonPlanner,
    SequencePlanner,
)

__all__ = [
    "Abstention",
    "AdaptivePlanner",
    "Beam",
    "BeamPlanner",
    "Belief",
    "Believed",
    "BestConstant",
    "CEMPlanner",
    "CVaR",
    "Candidate",
    "Change",
    "CrossEntropy",
    "DeferringPlanner",
    "Entropic",
    "Exceedance",
    "Excluded",
    "ExhaustivePlanner",
    "GuidelinePlanner",
    "MeanVariance",
    "Measure",
    "Plan",
    "PlanInfo",
    "Planner",
    "PolicyPlanner",
    "Preference",
    "RandomPlanner",
    "RandomShooting",
    "RandomShootingPlanner",
    "RecedingHorizonPlanner",
    "SelectiveRisk",
    "SequencePlanner",
    "WatchAndWait",
    "check_planner",
    "measure_named",
    "plan",
    "plan_adaptively",
    "selective_risk",
]
