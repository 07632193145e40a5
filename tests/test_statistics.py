"""Paired differences, Holm's correction and normalised scores: known answers, and nominal error rates by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ecg_gym.statistics import Anchor, bootstrap, gap_in_errors, holm, iqm, normalised, paired_difference, resamples


def test_flipped_signs_say_what_the_exact_permutation_test_says() -> None:
    x = np.array([1.1, -0.2, 0.8, 0.5, -0.1, 0.9, 1.4])
    exact = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    result = paired_difference(x, draws=20_000)
    assert result.value == pytest.approx(x.mean())
    assert result.p == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("seeds", [1, 5])
def test_an_interval_holds_nought_exactly_where_the_test_does_not_reject(seeds: int) -> None:
    rng = np.random.default_rng(3)
    for shift in np.linspace(-0.6, 0.6, 13):
        result = paired_difference(rng.normal(shift, 1, (seeds, 30)))
        for level in (0.9, 0.95, 0.99):
            low, high = result.interval(level)
            assert (low <= 0 <= high) == (result.p > 1 - level) or min(abs(low), abs(high)) < 1e-3
            assert low <= result.value <= high


def test_the_interval_of_normal_differences_is_the_textbooks() -> None:
    x = np.random.default_rng(0).normal(0.3, 1, 200)
    low, high = paired_difference(x).interval()
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 199, x.mean(), stats.sem(x)), abs=0.02)


def null(rng: np.random.Generator, seeds: int, patients: int) -> np.ndarray:
    """Two agents that are as good as each other: mostly equal, sometimes one dies, patients and trainings differ."""
    deaths = rng.choice([0, 12.0, -12.0], (seeds, patients), p=[0.97, 0.015, 0.015])
    own, training = rng.normal(0, 0.5, patients), rng.normal(0, 0.1, (seeds, 1)) if seeds > 1 else 0.0
    same = rng.random((seeds, patients)) < 0.4
    return np.where(same & (deaths == 0), 0.0, own + rng.normal(0, 0.3, (seeds, patients)) + deaths) + training


@pytest.mark.parametrize("seeds", [1, 5])
def test_false_positives_come_at_the_nominal_rate(seeds: int) -> None:
    rng, runs = np.random.default_rng(1), 500
    false = np.mean([paired_difference(null(rng, seeds, 100), draws=500, seed=i).p <= 0.05 for i in range(runs)])
    assert false <= stats.binom.ppf(0.995, runs, 0.05) / runs
    assert false >= 0.01, "a test that never rejects has no power"


def test_a_percentile_bootstrap_of_few_patients_is_what_was_wrong_before() -> None:
    rng, runs = np.random.default_rng(2), 400
    false = 0
    for i in range(runs):
        x = null(rng, 1, 8)[0]
        interval = bootstrap(lambda rows, x=x: x[rows].mean(axis=-1), [8], 300, i)[1]
        false += not interval[0] <= 0 <= interval[1]
    assert false / runs > 0.08


@pytest.mark.slow
def test_bca_intervals_of_rare_deaths_err_too_often() -> None:
    rng, runs, false = np.random.default_rng(3), 300, 0
    for _ in range(runs):
        deaths = rng.choice([0, 12.0, -12.0], 100, p=[0.96, 0.02, 0.02])
        x = rng.normal(0, 0.5, 100) + deaths
        interval = stats.bootstrap((x,), np.mean, n_resamples=1000, method="BCa", random_state=rng).confidence_interval
        false += not interval.low <= 0 <= interval.high
    assert false / runs > 0.1


def test_holm_is_the_step_down_procedure() -> None:
    adjusted, shares = holm([0.01, 0.04, 0.03])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06])
    assert shares == pytest.approx([1 / 3, 1.0, 1 / 2])


def test_holm_keeps_the_familywise_rate() -> None:
    rng = np.random.default_rng(0)
    families = rng.random((4000, 10))
    assert np.mean([holm(p)[0].min() <= 0.05 for p in families]) == pytest.approx(0.05, abs=0.011)


def test_more_noise_between_trainings_is_a_wider_interval() -> None:
    rng = np.random.default_rng(5)
    patients = rng.normal(0, 1, (5, 100))
    widths = [
        np.ptp(paired_difference(patients + scale * np.arange(-2, 3)[:, None]).interval()) for scale in (0.0, 0.5)
    ]
    assert widths[1] > 2 * widths[0]


def test_scores_are_nought_and_one_at_the_anchors_and_their_noise_is_in_the_interval() -> None:
    returns = [np.full((1, 50), -3.0), np.full((1, 50), -1.0)]
    sure = [(Anchor(-3.0, 0.0, 1000), Anchor(-1.0, 0.0, 1000))] * 2
    assert normalised(returns, sure, draws=20)["mean"] == (pytest.approx(0.5), pytest.approx((0.5, 0.5)))
    vague = [(Anchor(-3.0, 0.1, 1000), Anchor(-1.0, 0.1, 1000))] * 2
    low, high = normalised(returns, vague, draws=2000)["mean"][1]
    assert 0.04 < 0.5 - low < 0.12
    assert 0.04 < high - 0.5 < 0.12
    assert gap_in_errors(*vague[0]) == pytest.approx(2 / np.hypot(0.1, 0.1))


@pytest.mark.parametrize("wrong", [[1.0], [[1.0], [2.0]], [1.0, np.nan]])
def test_what_has_no_interval_is_refused(wrong: list) -> None:
    with pytest.raises(ValueError, match="at least two patients"):
        paired_difference(np.array(wrong))


@pytest.mark.parametrize("n", [1, 3, 4, 7, 20])
def test_iqm_is_the_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(0).normal(size=(5, n))
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=-1))


def test_resamples_stay_within_their_stratum() -> None:
    rows = resamples([3, 5, 1], 100, seed=0)
    assert rows.shape == (100, 9)
    assert set(rows[:, :3].ravel()) == {0, 1, 2}
    assert set(rows[:, 3:8].ravel()) == {3, 4, 5, 6, 7}
    assert set(rows[:, 8]) == {8}


def test_bootstrap_of_the_mean_has_the_textbook_width() -> None:
    values = np.random.default_rng(0).normal(size=400)
    value, (low, high) = bootstrap(lambda rows: values[rows].mean(axis=-1), [400], 4000, seed=1)
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_differences_between_strata_are_no_uncertainty() -> None:
    values = np.array([0.0, 0.0, 0.0, 10.0, 10.0])
    assert bootstrap(lambda rows: values[rows].mean(axis=-1), [3, 2], 100, seed=0) == (4.0, [4.0, 4.0])


def test_one_episode_has_no_interval() -> None:
    assert bootstrap(lambda rows: rows.mean(axis=-1), [1], 100, seed=0) == (0.0, None)


def test_iqm_and_interval_agree_with_rliable() -> None:
    library = pytest.importorskip("rliable.library", reason="rliable is not installed")
    metrics = pytest.importorskip("rliable.metrics")
    scores = np.random.default_rng(0).normal(size=(12, 5)) + np.arange(5)  # runs x tasks
    value, interval = library.get_interval_estimates(
        {"a": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=4000, random_state=np.random.RandomState(0)
    )
    flat = scores.T.ravel()
    ours, ci95 = bootstrap(lambda rows: iqm(flat[rows]), [12] * 5, 4000, seed=0)
    assert ours == pytest.approx(float(value["a"][0]))
    assert ci95 == pytest.approx(interval["a"].ravel().tolist(), abs=0.03)
