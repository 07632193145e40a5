"""What a plan comes down to, in the words that table, picture and page share."""

from __future__ import annotations

from planners.plan import Candidate, Plan


def verdict(plan: Plan) -> str:
    """The recommendation as one sentence; "" where the plan recommends nothing."""
    advice = plan.recommendation
    if advice is None:
        return ""
    sure = "" if advice.confidence == "usual" else f" Confidence {advice.confidence}."
    return f"Recommendation: {advice.treatment}: {advice.why}.{sure}"


def below_line(row: Candidate, plan: Plan) -> bool:
    """Whether a row stands below the line "not better than watching"."""
    return plan.recommendation is not None and bool(row.treatment) and not row.better_than_watching
