"""The study of sampler speed: its arithmetic on cases worked by hand, and that its peer is what it says."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from ecg_gym.core import WATCH
from training.evaluation import result
from training.evaluation.speed import sampler as module
from training.evaluation.speed.naive_unet import PeerUNet, peer_inputs

torch.set_num_threads(1)


def test_crps_lost_is_relative_to_the_reference_and_averaged_over_intervals():
    base = np.array([[1.0, 10.0], [3.0, 10.0]])
    every = np.arange(2)
    assert module._loss_of(base, base)(every) == 0
    assert module._loss_of(base * [1.1, 1.3], base)(every) == pytest.approx(0.2)
    holes = np.array([[np.nan, 11.0], [3.3, 11.0]])  # a question that was not answered counts on neither side
    assert module._loss_of(holes, base)(every) == pytest.approx(0.1)
    assert np.isnan(module._loss_of(np.full((2, 2), np.nan), base)(every))


def test_condition_error_is_the_distance_of_what_came_to_what_was_asked():
    target = np.full((2, 3, 6), 100.0)
    came = target + np.array([1, 2, 3, 4, 5, 6.0])
    came[0, 0, 0] = np.nan
    errors = module._condition_errors({"intervals": came, "asked": target})
    assert list(errors.values()) == [1, 2, 3, 4, 5, 6]
    assert errors["condition_qtcf"] == 4
    assert module._condition_errors({"intervals": came}) == {}


def test_a_query_has_fifty_different_candidates():
    candidates = module.candidates_for(50)
    assert candidates[0] == WATCH
    assert len(set(candidates)) == 50
    with pytest.raises(ValueError, match="expected 9999 at least"):
        module.candidates_for(10_000)


def test_the_peer_is_a_network_of_the_usual_size_that_hears_what_it_is_told():
    torch.manual_seed(0)
    peer = PeerUNet().eval()
    assert 10e6 < sum(p.numel() for p in peer.parameters()) < 14.2e6
    z, tau, token = peer_inputs(2)
    with torch.inference_mode():
        noise = peer(z, tau, token)
        assert noise.shape == z.shape
        for other in (peer(z + 1, tau, token), peer(z, tau + 300, token), peer(z, tau, token + 1)):
            assert (other - noise).abs().mean() > 1e-4


def test_least_is_processor_time_and_leaves_the_first_call_out(monkeypatch):
    clock, calls = [0.0], []

    def call():
        clock[0] += (100.0, 3.0, 2.0, 5.0)[len(calls)]  # the first pays for compiling and for cold caches
        calls.append(0)

    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    assert module.least(call, 3) == 2.0
    assert len(calls) == 4


def rows():
    for sampler, steps in (("ddim", 50), ("ddim", 10), ("student", 4)):
        lost = {"value": 0.1 / steps, "ci95": None if steps == 50 else [0.0, 0.2]}
        yield {
            "sampler": sampler, "steps": steps, "network_calls": steps, "sampler_cpu_ms": 2.0 * steps,
            "crps_lost": lost["value"], "crps_lost_ci95": lost["ci95"], "crps_hr": 1.0, "crps_qtcf": 5.0,
            "unmeasured_qtcf": 0.0,
        }  # fmt: skip


def test_the_figure_is_drawn_from_the_document(tmp_path):
    world = type("World", (), {"sha256": "0" * 64, "metadata": {}})()
    parts = {"denoiser": 1.0, "codec": 0.5, "ranking": 0.1}
    document = result.document(
        "sampler-speed", world, 4, (0,), {"ratio_vs_naive": result.metric(1234.0)}, list(rows()),
        query_parts={"student_4": parts, "dpm_10": parts},
    )  # fmt: skip
    written = result.write(document, tmp_path, module.figure)
    assert {path.suffix for path in written} == {".json", ".csv", ".png"}
    assert [line["sampler"] for line in module.summary(document)] == ["ddim", "ddim", "student"]
    assert module.rows_of(module.Size(5, 2, (0, 1))) == 10 * len(module.SOLVERS)
