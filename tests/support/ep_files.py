"""Files that look like those of EDGAR, an optical mapping rig and CARTO 3, around a wave whose times are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from ecg_gym.datasets.ep import EPRecording, SitePacing

SPEED_MM_MS = 0.5
SIDE, STEP_MM = 8, 3.0


def sheet() -> tuple[np.ndarray, np.ndarray]:
    """``(64, 3)`` [mm] sites of a square and ``(98, 3)`` triangles."""
    y, x = np.mgrid[:SIDE, :SIDE]
    position = STEP_MM * np.stack([x.ravel(), y.ravel(), np.zeros(SIDE * SIDE)], axis=1)
    n = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    a, b, c, d = n[:-1, :-1].ravel(), n[:-1, 1:].ravel(), n[1:, :-1].ravel(), n[1:, 1:].ravel()
    return position, np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])


def plane_wave_ms(position: np.ndarray, start_ms: float = 20.0) -> np.ndarray:
    """``(M,)`` [ms] when a plane wave along x arrives."""
    return start_ms + position[:, 0] / SPEED_MM_MS


def voltage(times_ms: np.ndarray, samples: int = 400, duration_ms: float = 200.0) -> np.ndarray:
    """``(M, T)`` at 1 kHz: up within 2 ms, down within 20 ms around ``duration_ms`` later."""
    t = np.arange(samples)[None] - times_ms[:, None]
    return (1 / (1 + np.exp(-t / 0.5))) / (1 + np.exp((t - duration_ms) / 5.0))


def electrogram(times_ms: np.ndarray, samples: int = 500, repolarise_ms: float = 250.0) -> np.ndarray:
    """``(M, T)`` [mV] at 1 kHz: steepest fall at ``times_ms``, steepest rise of the T wave ``repolarise_ms`` later."""
    t = np.arange(samples)[None] - times_ms[:, None]
    return -10 * t / 4 * np.exp(-0.5 * (t / 4) ** 2) + 2 * np.tanh((t - repolarise_ms) / 25)


def recording(**changes: object) -> EPRecording:
    """Voltages of two protocols on the sheet, paced from the left edge."""
    position, triangles = sheet()
    edge = tuple(int(k) for k in np.flatnonzero(position[:, 0] == 0))
    values: dict[str, object] = {
        "kind": "voltage",
        "position": position,
        "rate_hz": 1000.0,
        "signal": np.stack([voltage(plane_wave_ms(position, start)) for start in (20.0, 30.0)]).astype(np.float32),
        "pacing": (SitePacing((edge,), (18.0,)), SitePacing((edge,), (28.0,))),
        "triangles": triangles,
        "surface": "epicardium",
        **changes,
    }
    return EPRecording(**values)  # type: ignore[arg-type]


def two_beats(protocols: int = 4, noise: float = 0.02, samples: int = 320) -> EPRecording:
    """Voltages at 500 Hz of two beats, paced from the four edges in turn, first sample at rest."""
    position, triangles = sheet()
    rng = np.random.default_rng(0)
    signals, pacing = [], []
    for axis, side in [(0, 0), (1, 0), (0, 1), (1, 1)][:protocols]:
        depth = position[:, axis] if side == 0 else position[:, axis].max() - position[:, axis]
        edge = tuple(int(k) for k in np.flatnonzero(depth == 0))
        first, second = (voltage(start + depth / SPEED_MM_MS, 640, 160.0) for start in (4.0, 304.0))
        signals.append((first + second)[:, ::2] + noise * rng.standard_normal((len(position), 320)))
        pacing.append(SitePacing((edge, edge), (0.0, 300.0)))
    return EPRecording(
        "voltage",
        position,
        500.0,
        np.stack(signals)[..., :samples].astype(np.float32),
        pacing=tuple(pacing),
        triangles=triangles,
    )


def write_edgar(
    folder: Path, unit: str | None = "mV", rate: float | None = 1000.0, scale: float = 1.0
) -> tuple[Path, Path]:
    """A signal file and a geometry file; corners begin with 1 and arrays are 3 x N, as in MATLAB."""
    position, triangles = sheet()
    ts: dict[str, object] = {"potvals": scale * electrogram(plane_wave_ms(position)), "label": "sinus, sock"}
    ts |= {"unit": unit} if unit else {}
    ts |= {"samplefrequency": rate} if rate else {}
    savemat(folder / "beat.mat", {"ts": ts})
    savemat(folder / "geometry.mat", {"sock": {"pts": position.T, "fac": triangles.T + 1}})
    return folder / "beat.mat", folder / "geometry.mat"


def video(noise: float = 0.02, seed: int = 0, samples: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """``(T, 24, 24)`` counts of an inverted dye over tissue of 18 x 24 pixels of 1 mm, and ``(24, 24)`` times [ms]."""
    y, x = np.mgrid[:24, :24]
    times = 20.0 + x / SPEED_MM_MS
    u = voltage(times.ravel(), samples).T.reshape(samples, 24, 24)
    rng = np.random.default_rng(seed)
    u = np.where(x < 18, u, 0.0) + noise * rng.standard_normal(u.shape)
    return 4000 + 30 * y - 400 * u, times


def write_carto(folder: Path, name: str = "1-LV") -> np.ndarray:
    """A mesh with one triangle of filling and points with times, one of them without; ``(63,)`` [ms] from the first."""
    position, triangles = sheet()
    lines = [
        "#TriangulatedMeshVersion2.0",
        "",
        "[GeneralAttributes]",
        f"NumVertex = {len(position)}",
        "",
        "[VerticesSection]",
    ]
    lines += [";          X  Y  Z  NormalX  NormalY  NormalZ  GroupID", ""]
    lines += [f"{i} =  {x:.4f} {y:.4f} {z:.4f}  0.0 0.0 1.0  0" for i, (x, y, z) in enumerate(position)]
    lines += ["", "[TrianglesSection]", ";  Vertex0 Vertex1 Vertex2 NormalX NormalY NormalZ GroupID", ""]
    lines += [f"{i} =  {a} {b} {c}  0.0 0.0 1.0  {0 if i else -1000000}" for i, (a, b, c) in enumerate(triangles)]
    (folder / f"{name}.mesh").write_text("\n".join([*lines, "", "[VerticesColorsSection]", ""]), encoding="utf-8")
    times = plane_wave_ms(position) - 90
    rows = [f"VERSION_5_0 {name}"]
    for i, ((x, y, z), ms) in enumerate(zip(position, times)):
        cells = ["P", i, i + 1, 0, x, y, z, 0, 0, 1, 2.5, 7.1, -10000 if i == 5 else ms, 0, 0, 0]
        rows.append("\t".join(map(str, cells)))
    (folder / f"{name}_car.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "Study.xml").write_text("<Study name='JANE DOE'/>", encoding="utf-8")
    return np.delete(times - times.min(), 5)
