"""Planners against a world whose truth is known: the ranking, its arithmetic, its honesty and its repeatability."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import (
    ATROPINE,
    DOFETILIDE,
    MENU,
    METOPROLOL,
    PLACEBO,
    Objection,
    dose,
    planned,
    start,
)
from scipy import stats
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from planners.measures import MeanVariance
from planners.ranking import rank
from planners.rollout import Futures, Strips, common_seeds
from planners.scoring import c4, interval, lambda_intervals, paired_bootstrap, score, ties


def test_slowing_a_fast_heart_wins_and_prolonging_qt_loses() -> None:
    ranking = [c.treatment for c in planned().candidates]
    assert ranking[0] == METOPROLOL  # 75 -> 65 bpm
    assert ranking[-1] in (DOFETILIDE, ATROPINE)  # +40 ms, or 75 -> 95 bpm
    assert WATCH in ranking, "watch and wait is always a candidate"


def test_predicted_changes_are_the_known_responses() -> None:
    rows = {c.treatment: c for c in planned(k=32).candidates}
    spread = 4 * 3.0 / math.sqrt(32)  # the world's own QTcF noise is 3 ms
    assert rows[DOFETILIDE].changes["qtcf_ms"].mean == pytest.approx(40 + rows[WATCH].changes["qtcf_ms"].mean, abs=1.5)
    assert rows[METOPROLOL].changes["hr_bpm"].mean == pytest.approx(-10, abs=1.0)
    assert rows[WATCH].changes["qtcf_ms"].mean == pytest.approx(0, abs=spread + 3)
    assert rows[WATCH].changes["qtcf_ms"].low < rows[WATCH].changes["qtcf_ms"].high
    assert rows[WATCH].changes["pr_ms"].n == 0
    assert math.isnan(rows[WATCH].changes["pr_ms"].mean)


def test_placebo_and_watching_are_a_tie_and_watching_is_named_first() -> None:
    made = planned(candidates=(PLACEBO,))
    first, second = made.candidates
    assert (first.treatment, second.treatment) == (WATCH, PLACEBO)
    assert first.score == second.score  # common random numbers: the same futures
    assert first.tie == second.tie == 1
    assert second.difference_ci == (0.0, 0.0)


def test_common_random_numbers_sharpen_the_difference() -> None:
    made = planned(candidates=(dose("dofetilide", 0.05),), k=32)
    a, b = (np.array(c.risks) for c in made.candidates)
    paired, unpaired = np.std(b - a), math.hypot(np.std(a), np.std(b))
    assert paired < 0.5 * unpaired


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(len(MENU))), batch_rows=st.integers(1, 60))
def test_the_plan_depends_neither_on_the_order_of_candidates_nor_on_the_batch(order, batch_rows) -> None:
    again = planned(candidates=[MENU[i] for i in order], batch_rows=batch_rows, k=3)
    assert again.to_json_dict() == planned(k=3).to_json_dict()


def test_the_same_seed_gives_the_same_plan_and_another_seed_other_futures() -> None:
    assert planned(seed=5).to_json_dict() == planned(seed=5).to_json_dict()
    assert planned(seed=5).best.risks != planned(seed=6).best.risks
    assert common_seeds(5, 16)[:3] == common_seeds(5, 3)


def test_a_candidate_is_scored_the_same_whoever_else_is_asked_for() -> None:
    alone = {c.treatment: c.score for c in planned(candidates=(DOFETILIDE,)).candidates}
    assert alone.items() <= {c.treatment: c.score for c in planned().candidates}.items()


def test_futures_that_are_not_finite_are_counted_and_never_best() -> None:
    world = AnalyticWorld(broken=("metoprolol",))
    made = planned(world, state=start(world))
    last = made.candidates[-1]
    assert (last.treatment, last.n_nonfinite, last.mean) == (METOPROLOL, 8, 1.0)
    assert made.best.n_nonfinite == 0
    assert any("not finite" in sentence for sentence in made.warnings)
    assert all(p.treatment != METOPROLOL for p in made.preferences)


def test_one_future_that_is_not_finite_puts_the_best_score_last() -> None:
    risks = np.array([[0.1, 0.1, 0.1, 1.0], [0.6, 0.6, 0.7, 0.7]])
    finite = np.array([[True, True, True, False], [True, True, True, True]])
    nothing: dict[str, np.ndarray] = {}
    sampled = Futures(risks, finite, np.ones((2, 4), bool), nothing, nothing, np.zeros((2, 4, 12, 8)), 8)
    ranked, preferences, _ = rank({METOPROLOL: (), WATCH: ()}, sampled, {}, MeanVariance(0.0), 0)
    assert [row.treatment for row in ranked] == [WATCH, METOPROLOL]
    assert ranked[1].score < ranked[0].score
    assert [row.n_nonfinite for row in ranked] == [0, 1]
    assert all(preference.treatment == WATCH for preference in preferences)


def test_the_futures_of_one_treatment_are_a_row() -> None:
    risks = np.arange(12.0).reshape(3, 4) / 12
    sound, nothing = np.ones((3, 4), bool), {"hr_bpm": 60 + risks}
    one = Futures(
        risks, sound, sound, nothing, nothing, Strips((AnalyticWorld().initial(4, np.random.default_rng(0)),) * 3), 12
    ).of(1)
    assert one.risks.tolist() == risks[1:2].tolist()
    assert one.intervals["hr_bpm"].shape == one.finite.shape == (1, 4)
    assert one.model_calls == 4


def test_a_risk_that_is_not_finite_counts_as_the_worst() -> None:
    class Broken(AnalyticRisk):
        def __call__(self, before, after, patients, alive=None):
            judged = super().__call__(before, after, patients, alive)
            judged.total[: len(after) // 2] = np.nan
            return judged

    made = planned(risk=Broken(), candidates=(), k=8)
    assert made.best.n_nonfinite == 4
    assert sorted(made.best.risks)[-4:] == [1.0] * 4


def test_lethal_futures_count_as_risk_one() -> None:
    world = AnalyticWorld(lethal=("metoprolol",))
    worst = planned(world, state=start(world)).candidates[-1]
    assert (worst.treatment, worst.n_lethal, worst.mean, worst.sd) == (METOPROLOL, 8, 1.0, 0.0)


def test_one_future_has_no_spread_and_says_so() -> None:
    with pytest.warns(UserWarning, match="lambda term is left out"):
        made = planned(k=1)
    assert math.isnan(made.best.sd)
    assert made.best.score == made.best.mean
    assert {c.tie for c in made.candidates} == {1}, "nothing can be told apart"


def test_forbidden_treatments_are_listed_with_the_reason_and_not_sampled() -> None:
    def rules(treatment, patient, intervals, given, hours, **_):
        assert intervals["hr_bpm"] == pytest.approx(75, abs=3)
        drug = treatment.doses[0].drug
        return [Objection(f"{drug} is discouraged", hard=drug == "dofetilide")] if drug[0] in "da" else []

    made = planned(rules=rules)
    assert [(str(e.treatment), e.reasons) for e in made.excluded] == [
        ("dofetilide 0.5 mg PO", ("dofetilide is discouraged",))
    ]
    rows = {c.treatment: c for c in made.candidates}
    assert DOFETILIDE not in rows
    assert rows[ATROPINE].remarks == ("atropine is discouraged",)
    assert made.model_calls == 8 * len(rows)


def test_horizon_judges_every_step() -> None:
    short, long = planned(candidates=(DOFETILIDE,), horizon=1), planned(candidates=(DOFETILIDE,), horizon=6)
    by_name = lambda p: {c.treatment: c for c in p.candidates}  # noqa: E731
    assert long.model_calls == 6 * short.model_calls
    assert by_name(long)[DOFETILIDE].mean < by_name(short)[DOFETILIDE].mean, "it wears off while we watch"
    assert by_name(long)[WATCH].mean == pytest.approx(by_name(short)[WATCH].mean, abs=0.02)


def test_json_is_strict_and_holds_the_promised_keys() -> None:
    text = json.dumps(planned(record="somebody").to_json_dict(), allow_nan=False)
    value = json.loads(text)
    assert {"record", "patient", "k", "risk_aversion", "seed", "model_sha256", "candidates"} <= value.keys()
    row = value["candidates"][0]
    assert {"treatment", "mean", "sd", "score", "score_ci", "n_nonfinite", "intervals"} <= row.keys()
    assert row["intervals"]["pr_ms"]["mean"] is None, "what was not measured is null, not a number"
    assert value["record"] == "somebody"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"horizon": 0}, "horizon 0"),
        ({"risk_aversion": -1.0}, "risk_aversion is -1.0"),
        ({"state": start().repeat(2)}, "2 patients"),
    ],
)
def test_bad_questions_are_refused(options, words) -> None:
    with pytest.raises(ValueError, match=words):
        planned(**options)


# --- the arithmetic -------------------------------------------------------------------------------------------------


def test_c4_makes_the_sd_unbiased() -> None:
    draws = np.random.default_rng(0).normal(0, 2.0, size=(40_000, 3))
    assert draws.std(axis=1, ddof=1).mean() / c4(3) == pytest.approx(2.0, rel=0.01)
    assert c4(16) == pytest.approx(0.98348, abs=1e-4)


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one() -> None:
    risks = np.random.default_rng(1).normal(0.5, 0.1, size=(1, 200))
    low, high = interval(paired_bootstrap(risks, 0.0, seed=0, resamples=4000)[0])
    half = stats.norm.ppf(0.975) * risks.std(ddof=1) / math.sqrt(200)
    assert (low, high) == pytest.approx((risks.mean() - half, risks.mean() + half), abs=0.15 * half)


def test_ties_follow_the_paired_difference() -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, size=50)
    clear = np.stack([noise, noise + 0.01])  # overlapping marginals, yet always worse
    assert ties([0, 1], paired_bootstrap(clear, 0.0, seed=0)).tolist() == [1, 2]
    unclear = np.stack([noise, noise[::-1] + 1e-4])
    assert ties([0, 1], paired_bootstrap(unclear, 0.0, seed=0)).tolist() == [1, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), min_size=1, max_size=8))
def test_breakpoints_in_lambda_are_exact(lines) -> None:
    mean, sd = np.array(lines).T
    result = lambda_intervals(mean, sd, range(len(lines)))
    assert result[0].low == 0
    assert result[-1].high == math.inf
    assert all(a.high == b.low for a, b in itertools.pairwise(result))
    for part in result:
        high = part.high if math.isfinite(part.high) else part.low + 7.0
        for lam in (part.low, (part.low + high) / 2, high):
            values = mean + lam * sd
            assert values[part.winner] <= values.min() + 1e-6 * (1 + lam)


def test_lines_that_are_as_good_as_parallel_cross_nowhere() -> None:
    (only,) = lambda_intervals(np.array([1.0, 0.0]), np.array([0.0, 5e-324]), range(2))
    assert (only.low, only.high, only.winner) == (0.0, math.inf, 1)


def test_score_without_spread_is_the_mean() -> None:
    assert score(np.array([[0.25]]), 0.6).tolist() == [0.25]
