"""The prognosis: units there and back, densities that integrate to one, draws that follow the density."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_gym.risk.aggregate import adverse
from ecg_gym.streams import Streams
from ecg_gym.world_model.conditioning import OBSERVED
from ecg_gym.world_model.interval_model import (
    CLASSES,
    TARGETS,
    Chance,
    IntervalModel,
    PrognosisConfig,
    observed_of,
    target_of,
)

torch.set_num_threads(1)
D = len(TARGETS)


def measurements(n=6):
    rng = np.random.default_rng(0)
    y = np.stack(
        [
            np.log(rng.uniform(45, 120, n)), rng.uniform(80, 140, n), rng.uniform(180, 260, n), rng.uniform(70, 110, n),
            np.log(rng.uniform(0.2, 0.8, n)), np.log(rng.uniform(0.8, 2, n)), np.log(rng.uniform(10, 60, n)),
            rng.uniform(130, 220, n),
        ], axis=1,
    )  # fmt: skip
    return y


@pytest.fixture(scope="module")
def loose():
    """A prognosis with random weights, so that its densities lean on everything."""
    torch.manual_seed(0)
    network = IntervalModel(PrognosisConfig(5, 16, 1, 3)).eval()
    for parameter in network.parameters():
        parameter.data += 0.15 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    network.set_scale([4.2, 95, 220, 90, -1, 0.3, 3, 160], [0.1, 4, 10, 6, 0.2, 0.1, 0.5, 8])
    return network


def test_units_there_and_back():
    y = measurements()
    observed = observed_of(y, np.full(len(y), 7))
    again, signs = target_of(observed)
    assert signs.tolist() == [7] * len(y)
    np.testing.assert_allclose(again, y, rtol=1e-4)
    column = {name: observed[:, i] for i, name in enumerate(OBSERVED)}
    np.testing.assert_allclose(
        column["qt_ms"], column["qrs_ms"] + column["jtpeak_ms"] + column["tpeak_tend_ms"], rtol=1e-5
    )
    np.testing.assert_allclose(column["qtcf_ms"], column["qt_ms"] * (column["hr_bpm"] / 60) ** (1 / 3), rtol=1e-5)
    # Johannesen 2014: J-Tpeak-c = J-Tpeak / RR^0.58, so a fast heart has the shorter J-Tpeak
    np.testing.assert_allclose(column["jtpeak_ms"], column["jtpeakc_ms"] * (60 / column["hr_bpm"]) ** 0.58, rtol=1e-5)


@pytest.mark.parametrize("signs", range(CLASSES))
def test_what_the_signs_deny_is_not_measured(signs):
    observed = dict(zip(OBSERVED, observed_of(measurements(1), np.array([signs]))[0]))
    assert np.isfinite(observed["pr_ms"]) == bool(signs & 1)
    assert observed["regular"] == bool(signs & 2)
    for name in ("qt_ms", "qtcf_ms", "jtpeak_ms", "jtpeakc_ms", "tpeak_tend_ms", "t_amplitude_mv"):
        assert np.isfinite(observed[name]) == bool(signs & 4)
    assert target_of(np.array([list(observed.values())]))[1] == signs


def test_the_density_of_one_interval_integrates_to_one(loose):
    """All others missing: they drop out of the chain, and what is left is a density of the one."""
    condition = torch.randn(1, 5, generator=torch.Generator().manual_seed(2))
    for name in ("log_hr", "qrs", "pr"):
        d = TARGETS.index(name)
        grid = torch.linspace(-60, 60, 20001)
        target = torch.full((len(grid), D), torch.nan)
        target[:, d] = loose.typical[d] + loose.scale[d] * grid
        n = len(grid)
        base = torch.full((n, D), torch.nan)
        parts = loose.nll(condition.expand(n, -1), base, target, torch.full((n,), 7), torch.ones(n))
        total = float((-parts["intervals"]).exp().sum() * (grid[1] - grid[0]))
        assert total == pytest.approx(1, abs=2e-3)


def test_draws_follow_the_density(loose):
    """Mean log-likelihood of its own draws is minus its entropy; of draws made wider it is less."""
    n = 4000
    rng = np.random.default_rng(3)
    condition = torch.randn(1, 5, generator=torch.Generator().manual_seed(2)).expand(n, -1)
    base = torch.tensor(measurements(1), dtype=torch.float32).expand(n, -1)
    keys = rng.integers(0, 2**64, (n, 2), dtype=np.uint64)
    chance = replace(Chance.of(Streams.start(keys)), death=np.ones(n))
    sample = loose.draw(condition, base, chance, np.full((n, 17), 0.1))
    assert sample.survives.all()
    y, signs = target_of(sample.observed)
    share = np.bincount(signs, minlength=CLASSES) / n
    np.testing.assert_allclose(share, torch.softmax(loose.signs(loose(condition[:1])), 1)[0].detach(), atol=0.03)
    rows = np.flatnonzero(signs == 7)[:1000]
    centre = np.median(y[rows], axis=0)
    likely = []
    for stretch in (0.7, 1.0, 1.5):
        moved = torch.tensor(centre + stretch * (y[rows] - centre), dtype=torch.float32)
        ones = torch.ones(len(rows))
        parts = loose.nll(condition[rows], base[rows], moved, torch.full((len(rows),), 7), ones)
        likely.append(float(-parts["intervals"].mean() + D * np.log(stretch)))
    assert likely[1] > likely[0]
    assert likely[1] > likely[2]


def test_the_same_chance_is_the_same_draw_whatever_the_crowd(loose):
    rng = np.random.default_rng(4)
    condition = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    base = torch.tensor(measurements(7), dtype=torch.float32)
    chance = Chance.of(Streams.start(rng.integers(0, 2**64, (7, 2), dtype=np.uint64)))
    was = np.full((7, 17), 0.1)
    together = loose.draw(condition, base, chance, was)
    row = int(rng.integers(7))
    some = slice(row, row + 1)
    alone = loose.draw(condition[some], base[some], chance[some], was[some])
    np.testing.assert_allclose(alone.observed[0], together.observed[row], rtol=1e-4)
    assert alone.survives[0] == together.survives[row]


def test_the_dead_teach_only_that_they_died(loose):
    base, target = (torch.tensor(measurements(2), dtype=torch.float32) for _ in range(2))
    target[1] = torch.nan
    parts = loose.nll(torch.zeros(2, 5), base, target, torch.tensor([7, 0]), torch.tensor([1.0, 0.0]))
    assert parts["intervals"][1] == 0
    assert parts["signs"][1] == 0
    assert parts["death"][1] > 0
    assert torch.isfinite(parts["intervals"]).all()


def test_a_chain_without_a_last_measurement_begins_at_what_is_typical(loose):
    nothing = torch.full((1, D), torch.nan)
    torch.testing.assert_close(loose.starting(nothing)[0], loose.typical)


def test_findings_are_those_before_until_something_is_learned_and_pressure_is_as_expected():
    net = IntervalModel(PrognosisConfig(5, 16, 1, 2, findings=8, pressure=True))
    was = np.random.default_rng(0).uniform(0.01, 0.99, (6, 17))
    chance = Chance.of(Streams.start(np.arange(12, dtype=np.uint64).reshape(6, 2)))
    base = torch.tensor(measurements(6), dtype=torch.float32)
    sample = net.draw(torch.zeros(6, 5), base, chance, was, np.full(6, 80.0))
    np.testing.assert_allclose(sample.findings, was, atol=1e-5)
    assert np.isfinite(sample.pressure).all()
    assert np.abs(sample.pressure - 80).max() < 60
    unknown = IntervalModel(PrognosisConfig(5, 16, 1, 2)).draw(torch.zeros(6, 5), base, chance, was)
    np.testing.assert_allclose(unknown.findings, was, atol=1e-6)
    assert np.isnan(unknown.pressure).all()


def test_what_the_risk_makes_of_findings_is_the_same_for_gradients():
    net = IntervalModel(PrognosisConfig(5, 16, 1, 2, findings=8))
    probabilities = np.random.default_rng(1).random((20, 17))
    made = net.findings.adverse(torch.tensor(probabilities, dtype=torch.float32))
    np.testing.assert_allclose(made.numpy(), adverse(probabilities), atol=1e-5)


def test_what_findings_were_moves_the_next_ones_without_steps():
    torch.manual_seed(0)
    head = IntervalModel(PrognosisConfig(5, 16, 1, 2, findings=8)).findings
    torch.nn.init.normal_(head.layers[2].weight)
    was = torch.linspace(-6, 6, 49)[:, None].expand(49, 17).clone().requires_grad_()
    added = head(torch.zeros(49, 16), torch.zeros(49, D), torch.zeros(49, dtype=torch.long), was) - was
    (slope,) = torch.autograd.grad(added.sum(), was)
    assert (slope != 0).any(dim=1).all(), "wherever the odds were"
    assert added.diff(dim=0).abs().max() < 1
