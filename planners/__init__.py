"""Planners: which treatment, given a world that says what each would do. Lower S is better. Research only."""

from planners.abstention import Abstention, DeferringPlanner, SelectiveRisk, selective_risk
from planners.adaptive import AdaptivePlanner, plan_adaptively
from planners.base import PlanInfo, Planner
from planners.baselines import BestConstant, ExhaustivePlanner, KitchenSink, RandomPlanner, WatchAndWait
from planners.belief import Belief, Believed
from planners.checks import check_planner
from planners.constant_search import ConstantSearchPlanner
from planners.guideline import GuidelinePlanner
from planners.measures import CVaR, Entropic, Exceedance, MeanVariance, Measure, measure_named
from planners.mpc import BeamPlanner, CEMPlanner, RandomShootingPlanner, RecedingHorizonPlanner, SequencePlanner
from planners.plan import Candidate, Change, Excluded, Plan, Preference
from planners.ranking import plan
from planners.sb3 import PolicyPlanner
from planners.search import Beam, CrossEntropy, RandomShooting
from planners.tree_search import TreeSearchPlanner

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
    "ConstantSearchPlanner",
    "CrossEntropy",
    "DeferringPlanner",
    "Entropic",
    "Exceedance",
    "Excluded",
    "ExhaustivePlanner",
    "GuidelinePlanner",
    "KitchenSink",
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
    "TreeSearchPlanner",
    "WatchAndWait",
    "check_planner",
    "measure_named",
    "plan",
    "plan_adaptively",
    "selective_risk",
]
