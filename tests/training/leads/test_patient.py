"""From recordings to data sets: nodes, pacing, splits, units, and what is refused."""

from __future__ import annotations

from pathlib import Path

import ep_files
import numpy as np
import pytest

from ecg_gym.datasets.ep import SitePacing, activation_times, convert_carto, convert_edgar, read_ep, write_ep
from training.leads.patient import data_set, recording_of, surface_graph, tissue_graph


def test_voltages_begin_at_the_first_stimulus() -> None:
    data = data_set(ep_files.recording())
    assert (data.kind, data.sample_ms, len(data.graph)) == ("voltage", 2.0, 64)
    assert (data.train, data.validation, data.held_out) == ((0,), (1,), ())
    assert [row.onset_ms for row in data.pacing] == [(0.0,), (0.0,)]
    position, _ = ep_files.sheet()
    u = ep_files.voltage(ep_files.plane_wave_ms(position))
    np.testing.assert_allclose(data.values[0, 4], u[:, 28], atol=1e-6)  # 18 ms of waiting and (4 + 1) x 2 ms
    np.testing.assert_allclose(data.values[0, :60], data.values[1, :60], atol=1e-6)  # only the start differed
    assert data.pacing[0].nodes == (tuple(range(0, 64, 8)),)


def test_a_data_set_comes_back_from_its_folder(tmp_path: Path) -> None:
    before = data_set(ep_files.two_beats())
    after = data_set(read_ep(write_ep(recording_of(before), tmp_path)))
    assert (before.samples, after.samples) == (319, 319)
    np.testing.assert_allclose(after.values, before.values, atol=1e-6)
    assert after.pacing == before.pacing
    assert (after.train, after.validation, after.held_out) == ((0, 1), (2,), (3,))
    assert after.truth is None
    assert after.noise == pytest.approx(0.02, rel=0.2)
    np.testing.assert_allclose(after.graph.weight, ep_files.STEP_MM**-2)  # a grid: found without its triangles
    assert data_set(read_ep(tmp_path)).key == after.key


def test_times_come_back_too(tmp_path: Path) -> None:
    times = np.stack([activation_times(ep_files.two_beats())[k] for k in range(3)])
    made = ep_files.recording(kind="times", signal=None, times=times, pacing=ep_files.two_beats(3).pacing)
    before = data_set(made)
    after = data_set(read_ep(write_ep(recording_of(before), tmp_path)))
    assert after.kind == "times"
    assert after.values.shape == (3, 64, 2, 2)
    np.testing.assert_allclose(after.values, before.values, atol=1e-3)


def test_electrograms_become_times(tmp_path: Path) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path)
    edge = list(range(0, 64, 8))
    made = convert_edgar([signals] * 3, geometry, pacing=[[(edge, 18.0)]] * 3)
    data = data_set(made)
    position, _ = ep_files.sheet()
    assert data.kind == "times"
    assert data.values.shape == (3, 64, 1, 2)
    np.testing.assert_allclose(data.values[0, :, 0, 0], ep_files.plane_wave_ms(position) - 18, atol=1.0)


def test_a_single_map_is_split_by_its_sites(tmp_path: Path) -> None:
    ep_files.write_carto(tmp_path)
    data = data_set(convert_carto(tmp_path), max_nodes=40)
    assert data.values.shape == (3, 40, 1, 2)
    known = np.isfinite(data.values[..., 0, 0])
    assert (known.sum(axis=0) <= 1).all()  # no node in two parts
    assert known[0].sum() > known[1].sum() > 3
    assert len(data.graph) == 40
    assert np.isnan(data.values[..., 1]).all()
    assert min(node for row in data.pacing for nodes in row.nodes for node in nodes) >= 0
    assert data_set(convert_carto(tmp_path), max_nodes=40, seed=1).key != data.key


def test_without_pacing_the_earliest_sites_stand_for_it() -> None:
    data = data_set(ep_files.recording(pacing=()))
    for row in data.pacing:
        assert all(data.graph.position[node, 0] == 0 for node in row.nodes[0])


def test_surfaces_are_thinned_and_stay_in_one_piece() -> None:
    made = ep_files.recording()
    graph, node_of_site = tissue_graph(made, 30)
    assert len(graph) == 30
    assert node_of_site.shape == (64,)
    assert set(node_of_site) == set(range(30))
    reached = {0}
    for _ in range(30):
        reached |= {int(b) for a, b in graph.edges if a in reached} | {int(a) for a, b in graph.edges if b in reached}
    assert len(reached) == 30


def test_separate_pieces_are_joined_by_their_shortest_gap() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.uniform(0, 10, (12, 3)), rng.uniform(0, 10, (12, 3)) + np.array([40, 0, 0])
    times = np.full((2, 24, 1, 2), np.nan)
    times[..., 0, 0] = 10 + np.concatenate([left, right])[:, 0]
    made = ep_files.recording(
        kind="times", position=np.concatenate([left, right]), signal=None, times=times, pacing=(), triangles=None
    )
    graph, _ = tissue_graph(made)
    across = [(a, b) for a, b in graph.edges if (a < 12) != (b < 12)]
    assert len(across) == 1


@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_the_operator_of_a_surface_is_a_laplacian(spread: float) -> None:
    """The second moment of its weights is 4 in two dimensions: exactly on a grid, on average off it."""
    position, triangles = ep_files.sheet()
    position = position + np.random.default_rng(0).uniform(-spread, spread, position.shape) * [1, 1, 0]
    graph = surface_graph(position, triangles)
    moment = np.zeros(64)
    np.add.at(moment, graph.edges, (graph.weight * graph.distance**2)[:, None])
    inner = np.array([k for k in range(64) if 0 < k % 8 < 7 and 0 < k // 8 < 7])
    assert moment[inner].mean() == pytest.approx(4.0, rel=1e-9 if spread == 0 else 0.1)
    assert (graph.weight > 0).all()


def test_curved_tissue_without_triangles_has_neighbours() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 3))
    graph = surface_graph(20 * points / np.linalg.norm(points, axis=1, keepdims=True))
    assert np.bincount(graph.edges.ravel()).min() >= 8


def test_potentials_at_a_distance_keep_their_lead_field() -> None:
    position, _ = ep_files.sheet()
    rng = np.random.default_rng(0)
    field = rng.standard_normal((4, 64))
    u = ep_files.voltage(ep_files.plane_wave_ms(position))
    corners = 100.0 * np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    pacing = (SitePacing(((0,),), (18.0,)),) * 2
    made = ep_files.recording(
        kind="electrodes", position=corners, signal=np.stack([field @ u] * 2).astype(np.float32), nodes=position,
        lead_field=field, pacing=pacing, triangles=None,
    )  # fmt: skip
    data = data_set(made)
    assert data.kind == "electrodes"
    np.testing.assert_allclose(data.values[0, 4], (field @ u)[:, 28], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"(?s).+; expected .+; .+"):
        data_set(ep_files.recording(
            kind="electrodes", position=corners, signal=(field @ u)[None].astype(np.float32), nodes=position,
            lead_field=field, pacing=(), triangles=None,
        ))  # fmt: skip


def test_what_is_too_short_or_too_sparse_is_refused() -> None:
    short = ep_files.recording(signal=np.full((2, 64, 30), 0.5, np.float32), pacing=())
    with pytest.raises(ValueError, match="remain after the stimulus"):
        data_set(short)
    times = np.full((1, 64, 1, 2), np.nan)
    times[0, :4, 0, 0] = [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="at least 10 to split"):
        data_set(ep_files.recording(kind="times", signal=None, times=times, pacing=()))
    times[0, 2:, 0, 0] = np.nan
    with pytest.raises(ValueError, match="fewer than 3 nodes"):
        data_set(ep_files.recording(kind="times", signal=None, times=times, pacing=()))
