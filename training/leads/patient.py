"""From a recording to a data set: ``data_set(recording)`` is what a fit and an agent work on.

The nodes of the tissue are the recorded sites, or the corners of the mapped surface, thinned to at most ``MAX_NODES``.
Voltages are fitted as they are; electrograms and maps by their activation and repolarisation times; potentials at a
distance through the lead field. Protocols are split into train, validation and held-out ones; a single protocol is
split by sites instead, and then nothing is known about other pacing. Time begins at the first stimulus of a protocol.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from ecg_gym.datasets.ep import EPRecording, activation_times
from ecg_gym.tissue import DataSet, Graph, Pacing
from training.leads.maps import flat

MAX_NODES = 400
SAMPLE_MS = 2.0  # [ms]
NEIGHBOURS = 8  # of a node of curved tissue without triangles
LONGEST_SIDE = 2.0  # of a triangle between the sites of flat tissue, times the median
PACED_FRACTION = 0.03  # of the nodes: the earliest ones stand for the stimulus of a recording without pacing
TAIL_MS = 60.0  # [ms] simulated after the last observed time
LONGEST_MS = 1200.0  # [ms] of one protocol
SITE_SPLIT = (0.6, 0.2, 0.2)  # of the sites of a single protocol: train, validation, held out


def data_set(recording: EPRecording, name: str = "recording", max_nodes: int = MAX_NODES, seed: int = 0) -> DataSet:
    """The data set of a recording; ``ValueError`` when too little was recorded to fit anything.

    ``seed`` draws the split by sites where there is one protocol.
    """
    if recording.kind == "electrodes":
        return _of_electrodes(recording, name)
    graph, node_of_site = tissue_graph(recording, max_nodes)
    times = _times_on_nodes(activation_times(recording), node_of_site, len(graph))
    pacing = _pacing(recording, times, node_of_site)
    if recording.kind == "voltage" and recording.protocols > 1 and bool(recording.recorded.all()):
        values, samples = _voltages(recording, node_of_site, len(graph), pacing)
        noise = _noise(values)
        observed = np.arange(len(graph))
        return DataSet(
            name,
            graph,
            _from_zero(pacing),
            SAMPLE_MS,
            samples,
            "voltage",
            values,
            observed,
            noise,
            *_split(len(values)),
        )
    first = np.array([min(row.onset_ms) for row in pacing])
    times = times - first[:, None, None, None]
    if len(times) == 1:
        times, pacing = _split_sites(times, seed), pacing * 3
    samples = _samples(float(np.nanmax(times)) + TAIL_MS)
    observed = np.arange(len(graph))
    return DataSet(
        name, graph, _from_zero(pacing), SAMPLE_MS, samples, "times", times.astype(np.float32), observed, 0.05,
        *_split(len(times)),
    )  # fmt: skip


def recording_of(data: DataSet) -> EPRecording:
    """A synthetic data set as a recording, for ``write_ep``: what a laboratory would hand over, without its truth."""
    from ecg_gym.datasets.ep import SitePacing

    pacing = tuple(SitePacing(row.nodes, row.onset_ms) for row in data.pacing)
    if data.kind == "voltage":
        rest = np.zeros((len(data.pacing), 1, len(data.graph)), np.float32)
        signal = np.concatenate([rest, data.values.astype(np.float32)], axis=1).transpose(0, 2, 1)
        return EPRecording("voltage", data.graph.position, 1000 / data.sample_ms, signal, pacing=pacing)
    if data.kind == "times":
        return EPRecording("times", data.graph.position, 1000 / data.sample_ms, times=data.values, pacing=pacing)
    raise ValueError(f"the data set is of kind {data.kind!r}; expected 'voltage' or 'times'; observe it that way")


def tissue_graph(recording: EPRecording, max_nodes: int = MAX_NODES) -> tuple[Graph, np.ndarray]:
    """The graph of the tissue and ``(M,)`` the node of each site."""
    own_surface = recording.vertices is not None and recording.triangles is not None
    points = recording.vertices if own_surface else recording.position
    assert points is not None
    indices = _spread(points, max_nodes)
    nodes = points[indices]
    nearest = cKDTree(nodes).query(points)[1]
    triangles = _triangles(nodes) if recording.triangles is None else _whole(nearest[recording.triangles])
    if own_surface:
        nearest = cKDTree(nodes).query(recording.position)[1]
    return surface_graph(nodes, triangles), nearest


def surface_graph(position: np.ndarray, triangles: np.ndarray | None = None) -> Graph:
    """A graph on a surface, with the cotangent weights of its triangles (Pinkall U, Polthier K 1993, Exp Math 2:15).

    Edges whose weight would not be positive are left out. Without triangles: nearest neighbours, with the weight
    4/(mean number of neighbours x distance^2). Separate pieces are joined by their shortest gap. The fibres lie along
    the longest extent of the nodes: a convention, not a measurement.
    """
    edges, weight = _near(position) if triangles is None or not len(triangles) else _cotangents(position, triangles)
    extra = _bridges(position, edges)
    if len(extra):
        length = np.linalg.norm(np.diff(position[extra], axis=1)[:, 0], axis=1)
        edges, weight = np.concatenate([edges, extra]), np.concatenate([weight, length**-2.0])
    axis = np.linalg.svd(position - position.mean(axis=0), full_matrices=False)[2][0]
    extent = np.maximum(np.ptp(position, axis=0), 1e-9)
    features = 2 * (position[edges].mean(axis=1) - position.min(axis=0)) / extent - 1
    return Graph(f"surface-{len(position)}", position, edges, weight, np.tile(axis, (len(position), 1)), features)


def _triangles(position: np.ndarray) -> np.ndarray | None:
    """Delaunay triangles of flat tissue without long sides, or None for curved tissue."""
    plane = flat(position)
    if plane is None:
        return None
    triangles = Delaunay(plane).simplices
    sides = np.linalg.norm(position[triangles] - position[np.roll(triangles, 1, axis=1)], axis=2).max(axis=1)
    return np.asarray(triangles[sides < LONGEST_SIDE * np.median(sides)])


def _whole(triangles: np.ndarray) -> np.ndarray:
    """Triangles whose corners are still three different nodes, each once."""
    a, b, c = triangles.T
    faces = triangles[(a != b) & (b != c) & (a != c)]
    return np.unique(np.sort(faces, axis=1), axis=0)


def _cotangents(position: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(E, 2)`` edges and ``(E,)`` weights [1/mm2]: half the cotangents over the Voronoi areas."""
    total: dict[tuple[int, int], float] = defaultdict(float)
    area = np.zeros(len(position))
    for corner in range(3):
        i, j, k = (triangles[:, (corner + turn) % 3] for turn in range(3))
        u, v = position[j] - position[i], position[k] - position[i]
        cotangent = np.sum(u * v, axis=1) / np.maximum(np.linalg.norm(np.cross(u, v), axis=1), 1e-9)
        part = np.maximum(cotangent, 0.0) * np.sum((u - v) ** 2, axis=1) / 8  # of the cells of both ends
        np.add.at(area, j, part)
        np.add.at(area, k, part)
        for a, b, half in zip(j, k, cotangent / 2):
            total[(min(int(a), int(b)), max(int(a), int(b)))] += float(half)
    edges = np.array(list(total))
    weight = np.array(list(total.values())) / area[edges].max(axis=1)  # a node on the border has half a cell
    keep = weight > 1e-3 * np.median(np.abs(weight))
    return edges[keep], weight[keep]


def _near(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges to the nearest neighbours, and their weights."""
    near = cKDTree(position).query(position, min(NEIGHBOURS + 1, len(position)))[1][:, 1:]
    sides = np.stack([np.repeat(np.arange(len(position)), near.shape[1]), near.ravel()], axis=1)
    edges = np.unique(np.sort(sides, axis=1), axis=0)
    neighbours = np.bincount(edges.ravel(), minlength=len(position))
    distance = np.linalg.norm(np.diff(position[edges], axis=1)[:, 0], axis=1)
    return edges, 4.0 / (neighbours[edges].mean(axis=1) * distance**2)


def _bridges(position: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """``(K, 2)`` shortest edges that join separate pieces."""
    extra: list[list[int]] = []
    while len(pieces := _pieces(len(position), np.concatenate([edges, np.array(extra, int).reshape(-1, 2)]))) > 1:
        first, rest = pieces[0], np.concatenate(pieces[1:])
        gap, index = cKDTree(position[rest]).query(position[first])
        at = int(np.argmin(gap))
        extra.append(sorted((int(first[at]), int(rest[index[at]]))))
    return np.array(extra, int).reshape(-1, 2)


def _pieces(n: int, edges: np.ndarray) -> list[np.ndarray]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    matrix = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    count, label = connected_components(matrix, directed=False)
    return [np.flatnonzero(label == piece) for piece in range(count)]


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most ``count`` points, each next one the farthest from those before."""
    if len(points) <= count:
        return np.arange(len(points))
    indices = [0]
    gap = np.linalg.norm(points - points[0], axis=1)
    while len(indices) < count:
        indices.append(int(np.argmax(gap)))
        gap = np.minimum(gap, np.linalg.norm(points - points[indices[-1]], axis=1))
    return np.sort(np.array(indices))


def _times_on_nodes(times: np.ndarray, node_of_site: np.ndarray, nodes: int) -> np.ndarray:
    """``(P, N, beats, 2)``: the mean over the sites of each node, NaN where there are none."""
    total, count = np.zeros((len(times), nodes, *times.shape[2:])), np.zeros((len(times), nodes, *times.shape[2:]))
    for protocol, row in enumerate(times):
        np.add.at(total[protocol], node_of_site, np.nan_to_num(row))
        np.add.at(count[protocol], node_of_site, np.isfinite(row))
    with np.errstate(invalid="ignore"):
        out = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if np.isfinite(out[:, :, 0, 0]).sum(axis=1).min() < 3:
        raise ValueError("a protocol has fewer than 3 nodes with an activation time; expected more; leave it out")
    return out


def _pacing(recording: EPRecording, times: np.ndarray, node_of_site: np.ndarray) -> tuple[Pacing, ...]:
    """As recorded, or at the earliest nodes, a sample before they activate."""
    if recording.pacing:
        return tuple(
            Pacing(
                tuple(tuple(sorted({int(node_of_site[site]) for site in sites})) for sites in row.sites), row.onset_ms
            )
            for row in recording.pacing
        )
    out = []
    for row in times:
        first = row[:, 0, 0]
        count = max(1, round(PACED_FRACTION * np.isfinite(first).sum()))
        nodes = tuple(int(node) for node in np.argsort(np.nan_to_num(first, nan=np.inf))[:count])
        out.append(Pacing((nodes,), (float(np.nanmin(first)) - SAMPLE_MS,)))
    return tuple(out)


def _from_zero(pacing: Sequence[Pacing]) -> tuple[Pacing, ...]:
    return tuple(Pacing(row.nodes, tuple(t - min(row.onset_ms) for t in row.onset_ms)) for row in pacing)


def _voltages(
    recording: EPRecording, node_of_site: np.ndarray, nodes: int, pacing: Sequence[Pacing]
) -> tuple[np.ndarray, int]:
    """``(P, T, N)`` float32 every 2 ms from the first stimulus, averaged over the sites of a node."""
    assert recording.signal is not None
    count = np.bincount(node_of_site, minlength=nodes)[:, None]
    first = [min(row.onset_ms) for row in pacing]
    length_ms = 1000 * (recording.signal.shape[2] - 1) / recording.rate_hz
    samples = _samples(min(length_ms - max(first), LONGEST_MS))
    out = np.zeros((recording.protocols, samples, nodes), np.float32)
    clock = 1000 * np.arange(recording.signal.shape[2]) / recording.rate_hz
    for protocol, signals in enumerate(recording.signal):
        mean = np.zeros((nodes, signals.shape[1]))
        np.add.at(mean, node_of_site, signals)
        mean /= count
        at = first[protocol] + SAMPLE_MS * np.arange(1, samples + 1)
        out[protocol] = np.stack([np.interp(at, clock, row) for row in mean], axis=1)
    return out, samples


def _samples(length_ms: float) -> int:
    samples = int(min(length_ms, LONGEST_MS) / SAMPLE_MS + 1e-6)
    if samples < 20:
        raise ValueError(
            f"{length_ms:.0f} ms remain after the stimulus; expected at least {20 * SAMPLE_MS:g} ms; check "
            "onset_ms and rate_hz"
        )
    return samples


def _noise(values: np.ndarray) -> float:
    """Standard deviation of the noise of u, from second differences at rest and on the plateau."""
    return float(np.median(np.abs(np.diff(values, 2, axis=1))) / 0.6745 / np.sqrt(6))


def _split(protocols: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Train, validation, held out: the last one judges, the one before it chooses."""
    if protocols == 2:
        return (0,), (1,), ()
    return tuple(range(protocols - 2)), (protocols - 2,), (protocols - 1,)


def _split_sites(times: np.ndarray, seed: int) -> np.ndarray:
    """``(3, N, beats, 2)``: one protocol thrice, each with its part of the nodes."""
    finite = np.flatnonzero(np.isfinite(times[0, :, 0, 0]))
    order = np.random.default_rng(seed).permutation(finite)
    bounds = np.round(np.cumsum((0.0, *SITE_SPLIT)) * len(order)).astype(int)
    if len(order) < 10:
        raise ValueError(
            f"{len(order)} nodes have a time; expected at least 10 to split; record more sites or protocols"
        )
    out = np.full((3, *times.shape[1:]), np.nan)
    for part in range(3):
        nodes = order[bounds[part] : bounds[part + 1]]
        out[part, nodes] = times[0, nodes]
    return out


def _of_electrodes(recording: EPRecording, name: str) -> DataSet:
    """Potentials through the lead field; the nodes are the recording's."""
    assert recording.signal is not None
    assert recording.nodes is not None
    assert recording.lead_field is not None
    if not recording.pacing or recording.protocols < 2:
        raise ValueError(
            f"{recording.protocols} protocols of potentials at a distance and {len(recording.pacing)} pacings; "
            "expected at "
            "least two with their pacing; add them to meta.yaml"
        )
    graph = surface_graph(recording.nodes, _triangles(recording.nodes))
    pacing = tuple(Pacing(row.sites, row.onset_ms) for row in recording.pacing)
    values, samples = _voltages(recording, np.arange(len(recording.position)), len(recording.position), pacing)
    noise = _noise(values) / max(float(values.std()), 1e-9)
    return DataSet(
        name, graph, _from_zero(pacing), SAMPLE_MS, samples, "electrodes", values, recording.lead_field, noise,
        *_split(len(values)),
    )  # fmt: skip


__all__ = ["MAX_NODES", "data_set", "recording_of", "surface_graph", "tissue_graph"]
