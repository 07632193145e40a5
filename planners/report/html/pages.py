"""``plan_page(story)`` returns a whole HTML document about one patient."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecg_gym.core import WATCH
from planners.plan import Plan
from planners.report.html import sections
from planners.report.html.markup import Piece, join, page, tag
from planners.report.html.ranking import BAR, LAMBDA_MOST, bar_most, lambda_frame, ranking
from planners.report.html.story import Story
from planners.report.html.whatif import whatif
from planners.scoring import RESAMPLES, c4

MOST_K = 128  # futures of each candidate that a page can carry and still be small
SECTIONS = (("before", "The strip before"), ("ranked", "Ranking"), ("futures", "What each may lead to"),
            ("what-if", "Branches"), ("masked", "Not allowed, and why"), ("repeat", "To repeat this"))  # fmt: skip


def plan_page(
    story: Story,
    title: str = "",
    more: Piece = None,
    links: tuple[tuple[str, str], ...] = (),
    notes: Sequence[str] = (),
) -> str:
    """The document; ``more`` are sections of yours before the plan, ``links`` the ways to them, ``notes`` warnings.

    Raises ``ValueError`` for more than ``MOST_K`` futures of each candidate.
    """
    plan = story.plan
    if plan.k > MOST_K:
        raise ValueError(
            f"k is {plan.k}; expected at most {MOST_K} futures of each candidate; a page that ranks again by itself "
            "carries them all: ask for fewer"
        )
    title = title or f"Plan for {plan.record or 'a patient'}"
    subtitle = f"{len(plan.candidates)} treatments, {plan.k} futures each, {plan.dt_hours:g} h steps"
    content = [
        more,
        sections.before(story),
        ranking(plan),
        sections.futures(story),
        whatif(story),
        sections.masked(story),
        sections.provenance({**story.facts, **hashes(plan)}),
    ]
    body = join([sections.header(title, subtitle, (*links, *SECTIONS), notes), tag("main", *content, id="content")])
    return page(title, body, script_data(plan))


def hashes(plan: Plan) -> dict[str, str]:
    """What the ranking rests on."""
    return {
        "seed": str(plan.seed),
        "seeds of the futures": " ".join(map(str, plan.seeds)),
        "weights of the world (SHA-256)": plan.model_sha256,
        "weights of the risk (SHA-256)": plan.risk_sha256,
        "rows asked of the world for the ranking": str(plan.model_calls),
    }


def script_data(plan: Plan) -> dict[str, Any]:
    """What the page's script ranks by: the risks of every future, and the columns of the same bootstrap."""
    rows = [
        {"name": str(c.treatment), "watch": c.treatment == WATCH, "mean": c.mean, "sd": c.sd,
         "n_nonfinite": c.n_nonfinite, "risks": c.risks[: plan.k], "indicated": c.indicated,
         "better": c.better_than_watching}
        for c in plan.candidates
    ]  # fmt: skip
    frame = lambda_frame(plan)
    right = frame.at(LAMBDA_MOST, 0)[0]
    return {
        "lambda": plan.risk_aversion,
        "k": plan.k,
        "c4": c4(plan.k) if plan.k > 1 else math.nan,
        "resamples": RESAMPLES,
        "columns": base64.b64encode(bootstrap_columns(plan).astype(np.uint8).tobytes()).decode(),
        "candidates": rows,
        "bar": {**BAR, "most": bar_most(plan)},
        "lines": {"left": frame.left, "width": right - frame.left, "most": LAMBDA_MOST},
    }


def bootstrap_columns(plan: Plan) -> np.ndarray:
    """The columns ``(R, K)`` that :func:`planners.scoring.paired_bootstrap` resamples: so the page agrees with it."""
    return np.random.default_rng([plan.seed, plan.k]).integers(0, plan.k, size=(RESAMPLES, plan.k))
