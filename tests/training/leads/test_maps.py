"""Maps are drawn for flat and curved tissue, with and without triangles, and with nodes that have no time."""

from __future__ import annotations

from pathlib import Path

import ep_files
import numpy as np
import pytest

from training.leads.maps import draw_maps, save_figure


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("with_triangles", [False, True])
def test_a_picture_of_two_maps(tmp_path: Path, curved: bool, with_triangles: bool) -> None:
    position, triangles = ep_files.sheet()
    if curved:
        position = position + np.stack([0 * position[:, 0], 0 * position[:, 0], 8 * np.sin(position[:, 0] / 7)], axis=1)
    times = ep_files.plane_wave_ms(position)
    gap = times.copy()
    gap[:3] = np.nan
    figure = draw_maps({"a": times, "b": gap}, position, triangles if with_triangles else None)
    assert len(figure.axes) == (5 if curved else 3)  # panels and the scale of colours
    path = save_figure(figure, tmp_path / "maps.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.iterdir()) == [path]


def test_a_map_without_any_time_is_drawn_all_the_same(tmp_path: Path) -> None:
    position, _ = ep_files.sheet()
    save_figure(draw_maps({"dead": np.full(64, np.nan)}, position), tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 1000
