"""CARTO 3 exports: the mesh of a map and the local activation times of its points, as a recording of kind ``times``.

``NAME.mesh`` is a text file with ``[GeneralAttributes]``, ``[VerticesSection]`` (``id = x y z nx ny nz group``) and
``[TrianglesSection]`` (``id = a b c nx ny nz group``); groups of -1000000 are filling. ``NAME_car.txt`` begins with
``VERSION_...`` and has a tab-separated line per point: column 2 is its number, 4 to 6 its position, 12 its activation
time, -10000 where there is none. The system is proprietary: the layout is as public readers of it describe it, and has
not been tried on a real export here. Names of patients in other files of an export are never opened.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecg_gym.datasets.ep.recording import EPRecording

NO_TIME = -10000.0
FILLING = -1000000
COLUMNS = 13  # of a line of points, at least


def convert_carto(folder: Path | str, map_name: str | None = None) -> EPRecording:
    """The points of one map of an export, relative to the earliest activation; one protocol, one beat.

    ``ValueError`` when the folder holds no map or several (then pass ``map_name``), or when the files do not fit.
    """
    folder = Path(folder)
    names = sorted(path.name.removesuffix("_car.txt") for path in folder.glob("*_car.txt"))
    if map_name is None and len(names) == 1:
        (map_name,) = names
    if map_name not in names:
        raise ValueError(
            f"the export has the maps {names} and {map_name!r} was chosen; expected one of them; pass "
            "map_name=..., or the "
            "folder that holds NAME_car.txt"
        )
    position, times = _points(folder / f"{map_name}_car.txt")
    vertices, triangles = _mesh(folder / f"{map_name}.mesh")
    first = np.unique(position.round(6), axis=0, return_index=True)[1]
    keep = np.zeros(len(position), dtype=bool)
    keep[first] = True
    keep &= np.isfinite(times)
    if keep.sum() < 3:
        raise ValueError(f"{int(keep.sum())} points have an activation time; expected at least 3; choose another map")
    out = np.full((1, int(keep.sum()), 1, 2), np.nan)
    out[0, :, 0, 0] = times[keep] - times[keep].min()
    return EPRecording(
        kind="times", position=position[keep], rate_hz=1000.0, times=out, triangles=triangles, vertices=vertices,
        surface="endocardium",
    )  # fmt: skip


def _points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``(M, 3)`` [mm] and ``(M,)`` [ms], NaN where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith("VERSION_"):
        raise ValueError(
            f"{path.name} begins with {lines[0][:30] if lines else ''!r}; expected VERSION_...; export the map again"
        )
    position, times = [], []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if not line.strip() or cells[0].strip() != "P":
            continue
        try:
            if len(cells) < COLUMNS:
                raise ValueError
            position.append([float(cell) for cell in cells[4:7]])
            times.append(float(cells[12]))
        except ValueError:
            raise ValueError(
                f"line {number} of {path.name} has {len(cells)} columns or no numbers; expected {COLUMNS} with "
                "x, y, z in 4 to "
                "6 and the activation time in 12; export the map again"
            ) from None
    if not position:
        raise ValueError(f"{path.name} has no points; expected lines that begin with P; choose another map")
    stamps = np.array(times)
    return np.array(position), np.where(stamps == NO_TIME, np.nan, stamps)


def _mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``(V, 3)`` [mm] and ``(F, 3)`` of the surface without its filling."""
    if not path.is_file():
        raise ValueError(f"there is no {path.name} beside the points; expected the mesh of the map; export it too")
    sections = _sections(path.read_text(encoding="utf-8", errors="replace"))
    try:
        vertices = _rows(sections["VerticesSection"], 3)
        triangles = _rows(sections["TrianglesSection"], 3)
    except (KeyError, ValueError, IndexError):
        raise ValueError(
            f"{path.name} has the sections {sorted(sections)}; expected VerticesSection and TrianglesSection "
            "with lines "
            "'id = x y z ... group'; export the map again"
        ) from None
    corners = triangles[triangles[:, -1] != FILLING][:, :3].astype(int)
    if not len(corners) or corners.max() >= len(vertices) or corners.min() < 0:
        raise ValueError(
            f"{path.name} has triangles beyond its {len(vertices)} vertices; expected indices from 0; export it again"
        )
    indices, inverse = np.unique(corners, return_inverse=True)
    return vertices[indices, :3], inverse.reshape(corners.shape)


def _sections(text: str) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    name = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1]
            out[name] = []
        elif name and line and not line.startswith(";"):
            out[name].append(line)
    return out


def _rows(lines: list[str], least: int) -> np.ndarray:
    """The numbers behind the ``=`` of each line, in the order of the ids."""
    rows = [
        (int(head), [float(cell) for cell in tail.split()]) for head, tail in (line.split("=", 1) for line in lines)
    ]
    numbers = [number for number, _ in rows]
    if numbers != list(range(len(rows))) or any(len(cells) < least for _, cells in rows):
        raise ValueError("ids are not 0, 1, 2 ...")
    return np.array([cells for _, cells in rows])
