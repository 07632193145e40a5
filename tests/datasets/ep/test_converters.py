"""EDGAR, optical mapping and CARTO: look-alike files around a wave whose activation times are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ep_files
import numpy as np
import pytest
from scipy.io import savemat

from ecg_gym.datasets.ep import activation_times, convert_carto, convert_edgar, convert_optical, read_ep, write_ep

THREE_PARTS = r"(?s).+; .*expected .+; .+"


def test_edgar_electrograms_activate_at_the_steepest_fall(tmp_path: Path) -> None:
    made = convert_edgar(*ep_files.write_edgar(tmp_path))
    position, triangles = ep_files.sheet()
    np.testing.assert_array_equal(made.triangles, triangles)  # from 1 to from 0
    times = activation_times(read_ep(write_ep(made, tmp_path / "case")))
    assert times.shape == (1, 64, 1, 2)
    np.testing.assert_allclose(times[0, :, 0, 0], ep_files.plane_wave_ms(position), atol=1.0)
    np.testing.assert_allclose(times[0, :, 0, 1], ep_files.plane_wave_ms(position) + 250, atol=2.0)


def test_edgar_takes_unit_and_rate_from_the_caller_where_the_file_has_none(tmp_path: Path) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path, unit=None, rate=None, scale=1000.0)
    with pytest.raises(ValueError, match="pass rate_hz"):
        convert_edgar(signals, geometry)
    with pytest.raises(ValueError, match="pass unit"):
        convert_edgar(signals, geometry, rate_hz=2000.0)
    made = convert_edgar(signals, geometry, rate_hz=2000.0, unit="uV")
    assert made.rate_hz == 2000.0
    assert made.signal is not None
    assert 5 < np.abs(made.signal).max() < 15


def test_edgar_reads_greek_micro_and_notices_a_wrong_unit(tmp_path: Path) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path, unit="µV", scale=1000.0)
    made = convert_edgar(signals, geometry)
    assert made.signal is not None
    assert np.abs(made.signal).max() < 15
    with pytest.raises(ValueError, match="probably in uV"):
        convert_edgar(*ep_files.write_edgar(tmp_path, unit="mV", scale=1000.0))


def test_edgar_several_beats_are_several_protocols(tmp_path: Path) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path)
    made = convert_edgar([signals, signals], geometry, pacing=[[([0], 0.0)], [([1], 0.0)]])
    assert made.protocols == 2
    assert made.pacing[1].sites == ((1,),)


def test_edgar_transposed_files_are_named_and_read_on_demand(tmp_path: Path) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path)
    position, _ = ep_files.sheet()
    savemat(signals, {"ts": {"potvals": ep_files.electrogram(ep_files.plane_wave_ms(position)).T, "unit": "mV"}})
    with pytest.raises(ValueError, match="transposed=True"):
        convert_edgar(signals, geometry, rate_hz=1000.0)
    assert convert_edgar(signals, geometry, rate_hz=1000.0, transposed=True).position.shape == (64, 3)


def _bytes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


EDGAR: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no file": ("beat.mat", Path.unlink, "no file"),
    "text": ("beat.mat", _bytes(b"hello"), "cannot be read"),
    "empty": ("beat.mat", _bytes(b""), "cannot be read"),
    "HDF5": ("beat.mat", _bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" * 40), "7.3"),
    "no potentials": ("beat.mat", lambda p: savemat(p, {"x": 1.0}), "a struct with potvals"),
    "no points": ("geometry.mat", lambda p: savemat(p, {"x": {"y": 1.0}}), "a struct with node or pts"),
    "points of two numbers": ("geometry.mat", lambda p: savemat(p, {"g": {"pts": np.ones((2, 64))}}), "3 x N"),
    "points of another geometry": (
        "geometry.mat",
        lambda p: savemat(p, {"g": {"pts": np.eye(3, 40)}}),
        "the geometry of these leads",
    ),
}


@pytest.mark.parametrize("name", EDGAR)
def test_broken_edgar_files_are_refused_in_three_parts(tmp_path: Path, name: str) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path)
    which, damage, words = EDGAR[name]
    damage(tmp_path / which)
    with pytest.raises(ValueError, match=THREE_PARTS) as caught:
        convert_edgar(signals, geometry)
    assert words in str(caught.value)


def test_every_truncation_of_a_mat_file_is_a_sentence(tmp_path: Path) -> None:
    signals, geometry = ep_files.write_edgar(tmp_path)
    content = signals.read_bytes()
    for length in (*range(0, 400, 13), *range(400, len(content) - 1, len(content) // 20)):
        signals.write_bytes(content[:length])
        with pytest.raises(ValueError, match="expected"):
            convert_edgar(signals, geometry)


def test_optical_video_gives_the_times_of_the_tissue_and_leaves_the_rest_out() -> None:
    frames, times = ep_files.video()
    made = convert_optical(frames, rate_hz=1000.0, pixel_mm=1.0, binning=2, inverted=True)
    assert made.position[:, 0].max() < 18  # the dish beside the tissue is left out
    assert len(made.position) == 9 * 12
    mean = times.reshape(12, 2, 12, 2).mean(axis=(1, 3))
    columns, rows = (made.position[:, :2] / 2).astype(int).T
    np.testing.assert_allclose(activation_times(made)[0, :, 0, 0], mean[rows, columns], atol=1.5)
    assert made.triangles is not None
    assert len(made.triangles) == 2 * 8 * 11


def test_optical_polarity_matters() -> None:
    frames, _ = ep_files.video()
    upright = convert_optical(-frames, rate_hz=1000.0, pixel_mm=1.0)
    inverted = convert_optical(frames, rate_hz=1000.0, pixel_mm=1.0, inverted=True)
    assert upright.signal is not None
    assert inverted.signal is not None
    np.testing.assert_allclose(upright.signal, inverted.signal, atol=1e-6)


def test_optical_pacing_by_place(tmp_path: Path) -> None:
    frames, _ = ep_files.video()
    np.save(tmp_path / "video.npy", frames)
    made = convert_optical(
        tmp_path / "video.npy",
        rate_hz=1000.0,
        pixel_mm=1.0,
        inverted=True,
        pacing=[[((0.0, 12.0), 18.0)]],
    )
    (sites,) = made.pacing[0].sites
    assert np.linalg.norm(made.position[list(sites), :2] - [0.0, 12.0], axis=1).max() <= 2.0
    with pytest.raises(ValueError, match="check the place"):
        convert_optical(frames, rate_hz=1000.0, pixel_mm=1.0, inverted=True, pacing=[[((90.0, 0.0), 0.0)]])


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (np.zeros((50, 8, 8)), "6 times their noise"),
        (np.random.default_rng(0).standard_normal((100, 8, 8)), "6 times their noise"),
        (np.ones((8, 8)), "(T, H, W)"),
        (np.full((9, 8, 8), np.nan), "not finite"),
        (np.ones((4, 64, 64)), "time first"),
        (np.array(["a"]), "(T, H, W)"),
        ("nowhere.npy", "cannot be read"),
    ],
)
def test_broken_videos_are_refused_in_three_parts(video: Any, words: str) -> None:
    with pytest.raises(ValueError, match=THREE_PARTS) as caught:
        convert_optical(video, rate_hz=1000.0, pixel_mm=1.0)
    assert words in str(caught.value)


def test_carto_points_and_mesh(tmp_path: Path) -> None:
    times = ep_files.write_carto(tmp_path)
    made = convert_carto(tmp_path)
    assert made.kind == "times"
    assert made.times is not None
    np.testing.assert_allclose(made.times[0, :, 0, 0], times)
    assert np.isnan(made.times[0, :, 0, 1]).all()
    assert made.triangles is not None
    assert len(made.triangles) == len(ep_files.sheet()[1]) - 1  # the filling is left out
    again = read_ep(write_ep(made, tmp_path / "case"))
    assert again.vertices is not None
    np.testing.assert_allclose(activation_times(again)[0, :, 0, 0], times)


def test_carto_several_maps_need_a_name(tmp_path: Path) -> None:
    ep_files.write_carto(tmp_path, "1-LV")
    ep_files.write_carto(tmp_path, "2-RV")
    with pytest.raises(ValueError, match="pass map_name"):
        convert_carto(tmp_path)
    assert convert_carto(tmp_path, "2-RV").position.shape == (63, 3)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("1-LV_car.txt", "VERSION_5_0", "hello", "expected VERSION_"),
        ("1-LV_car.txt", "P\t7\t8\t0\t21.0", "P\t7\t8\t0\tleft", "line 9"),
        ("1-LV_car.txt", "P\t", "Q\t", "no points"),
        ("1-LV.mesh", "[VerticesSection]", "[Vertices]", "expected VerticesSection"),
        ("1-LV.mesh", "7 =  21", "8 =  21", "id = x y z"),
        ("1-LV.mesh", "2 =  2 3 11 ", "2 =  2 3 99 ", "beyond its 64 vertices"),
        ("1-LV.mesh", None, None, "no 1-LV.mesh"),
    ],
)
def test_broken_carto_exports_are_refused_in_three_parts(
    tmp_path: Path, name: str, old: str | None, new: str, words: str
) -> None:
    ep_files.write_carto(tmp_path)
    path = tmp_path / name
    if old is None:
        path.unlink()
    else:
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new))
    with pytest.raises(ValueError, match=THREE_PARTS) as caught:
        convert_carto(tmp_path)
    assert words in str(caught.value)


def test_no_name_of_a_person_reaches_a_folder(tmp_path: Path) -> None:
    ep_files.write_carto(tmp_path)
    folder = write_ep(convert_carto(tmp_path), tmp_path / "case")
    assert not any(b"JANE" in path.read_bytes() for path in folder.iterdir())


def test_voltage_times_are_linear_between_samples() -> None:
    position, _ = ep_files.sheet()
    made = ep_files.recording()
    times = activation_times(made)
    for protocol, start in enumerate((20.0, 30.0)):
        expected = ep_files.plane_wave_ms(position, start) + 0.5 * np.log(0.3 / 0.7)
        np.testing.assert_allclose(times[protocol, :, 0, 0], expected, atol=0.5)


def test_sites_that_were_not_recorded_have_no_time() -> None:
    made = ep_files.recording()
    assert made.signal is not None
    signal = made.signal.copy()
    signal[:, 4] = np.nan
    times = activation_times(ep_files.recording(signal=signal))
    assert np.isnan(times[:, 4]).all()
    assert np.isfinite(np.delete(times, 4, axis=1)).all()
    assert list(np.flatnonzero(~ep_files.recording(signal=signal).recorded)) == [4]
