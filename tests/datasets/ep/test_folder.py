"""The folder format: what is written is read, and everything that does not fit is refused in three parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ep_files
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecg_gym.datasets.ep import read_ep, write_ep

THREE_PARTS = r"(?s).+; .*expected .+; .+"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    before = ep_files.recording()
    after = read_ep(write_ep(before, tmp_path / "case"))
    assert (after.kind, after.rate_hz, after.surface, after.pacing) == (
        "voltage",
        1000.0,
        "epicardium",
        before.pacing,
    )
    assert before.signal is not None
    assert after.signal is not None
    np.testing.assert_array_equal(after.signal, before.signal)
    np.testing.assert_allclose(after.position, before.position, atol=1e-6)
    np.testing.assert_array_equal(after.triangles, before.triangles)
    assert not list((tmp_path / "case").glob(".*"))


def test_electrodes_with_a_lead_field(tmp_path: Path) -> None:
    position, _ = ep_files.sheet()
    field = np.random.default_rng(0).standard_normal((4, len(position)))
    signal = (field @ ep_files.voltage(ep_files.plane_wave_ms(position)))[None].astype(np.float32)
    corners = 100.0 * np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    made = ep_files.recording(
        kind="electrodes", position=corners, signal=signal, nodes=position, lead_field=field, pacing=(), triangles=None
    )
    after = read_ep(write_ep(made, tmp_path))
    assert after.lead_field is not None
    np.testing.assert_allclose(after.lead_field, field)
    assert after.tissue_position.shape == position.shape


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_units_are_converted(tmp_path: Path, unit: str, factor: float) -> None:
    position, _ = ep_files.sheet()
    millivolts = ep_files.electrogram(ep_files.plane_wave_ms(position))
    folder = write_ep(ep_files.recording(kind="electrogram", signal=millivolts[None], pacing=()), tmp_path)
    np.save(folder / "signals.npy", millivolts / factor)
    change(folder, unit=unit, length_unit="cm")
    after = read_ep(folder)
    assert after.signal is not None
    np.testing.assert_allclose(after.signal[0], millivolts, rtol=1e-5)
    np.testing.assert_allclose(after.position, 10 * position, atol=1e-5)


def change(folder: Path, **meta: Any) -> None:
    old = yaml.safe_load((folder / "meta.yaml").read_text())
    new = {k: v for k, v in {**old, **meta}.items() if v is not None}
    (folder / "meta.yaml").write_text(yaml.safe_dump(new))


def replace(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, edit(np.load(folder / name)))


def text(name: str, content: str | bytes) -> Callable[[Path], Any]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def _one(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "no folder"),
    "no meta": (lambda f: (f / "meta.yaml").unlink(), "no meta.yaml"),
    "meta a list": (text("meta.yaml", "[1, 2]"), "expected kind and rate_hz"),
    "meta not YAML": (text("meta.yaml", "a: [1"), "expected YAML"),
    "meta not UTF-8": (text("meta.yaml", b"\xff\xfe\x00"), "expected YAML"),
    "meta with code": (text("meta.yaml", "!!python/object/apply:os.system ['true']"), "expected YAML"),
    "unknown key": (lambda f: change(f, name="Jane Doe"), "of the others only"),
    "unknown kind": (lambda f: change(f, kind="eeg"), "kind is 'eeg'"),
    "no rate": (lambda f: change(f, rate_hz=None), "expected kind and rate_hz"),
    "rate of text": (lambda f: change(f, rate_hz="fast"), "rate_hz is 'fast'"),
    "rate below zero": (lambda f: change(f, rate_hz=-5), "rate_hz is -5"),
    "rate not a number": (lambda f: change(f, rate_hz=float("nan")), "rate_hz is nan"),
    "unit of another kind": (lambda f: change(f, unit="mV"), "unit is 'mV'"),
    "length in feet": (lambda f: change(f, length_unit="ft"), "length_unit is 'ft'"),
    "length in metres": (lambda f: change(f, length_unit="m"), "extend over"),
    "no positions": (lambda f: (f / "positions.csv").unlink(), "no positions.csv"),
    "no header": (text("positions.csv", "0,0,0\n1,0,0\n0,1,0\n"), "header x,y,z"),
    "two columns": (text("positions.csv", "x,y,z\n0,0\n"), "header x,y,z"),
    "words": (text("positions.csv", "x,y,z\na,b,c\n"), "header x,y,z"),
    "empty file": (text("positions.csv", ""), "header x,y,z"),
    "infinite position": (text("positions.csv", "x,y,z\n" + "inf,0,0\n" * 64), "not finite"),
    "same position": (text("positions.csv", "x,y,z\n" + "0,0,0\n1,9,0\n0,9,0\n" * 22), "the same point"),
    "no signals": (lambda f: (f / "signals.npy").unlink(), "add signals.npy"),
    "transposed": (replace("signals.npy", lambda a: a.transpose(0, 2, 1)), "transposed"),
    "sites missing": (replace("signals.npy", lambda a: a[:, :10]), "expected (64 sites"),
    "one sample": (replace("signals.npy", lambda a: a[..., :1]), "expected (64 sites"),
    "pickle": (lambda f: np.save(f / "signals.npy", np.array([{}], dtype=object)), "signals.npy cannot be read"),
    "words in an array": (lambda f: np.save(f / "signals.npy", np.array(["a"])), "expected numbers"),
    "complex": (replace("signals.npy", lambda a: a + 1j), "expected numbers"),
    "no array": (text("signals.npy", "hello"), "cannot be read"),
    "truncated "
    "array": (lambda f: (f / "signals.npy").write_bytes((f / "signals.npy").read_bytes()[:900]), "cannot be read"),
    "a gap": (replace("signals.npy", lambda a: _one(a, (0, 3, 9), np.nan)), "fill the gaps"),
    "all NaN": (replace("signals.npy", lambda a: a * np.nan), "no signal has a finite value"),
    "not normalised": (replace("signals.npy", lambda a: 90 * a), "normalise"),
    "pacing of text": (lambda f: change(f, pacing="left"), "a list per protocol"),
    "pacing of one protocol": (lambda f: change(f, pacing=[[{"sites": [0], "onset_ms": 1}]]), "expected one each"),
    "pacing beyond": (lambda f: change(f, pacing=[[{"sites": [64], "onset_ms": 1}]] * 2), "outside 0..63"),
    "pacing of nobody": (lambda f: change(f, pacing=[[{"sites": [], "onset_ms": 1}]] * 2), "outside 0..63"),
    "triangles from 1": (text("triangles.csv", "a,b,c\n1,2,64\n"), "subtract one"),
    "lead field alone": (lambda f: change(f, kind="electrodes", unit="mV"), "need both"),
    "times swapped": (
        lambda f: np.save(f / "times.npy", np.full((2, 64, 1, 2), [250.0, 20.0])),
        "repolarise before they activate",
    ),
    "times of another shape": (lambda f: np.save(f / "times.npy", np.ones((64, 2))), "times have shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused_in_three_parts(tmp_path: Path, name: str) -> None:
    folder = write_ep(ep_files.recording(), tmp_path / "case")
    damage, words = BROKEN[name]
    damage(folder)
    with pytest.raises(ValueError, match=THREE_PARTS) as caught:
        read_ep(folder)
    assert words in str(caught.value)


def test_microvolts_called_millivolts_are_noticed(tmp_path: Path) -> None:
    position, _ = ep_files.sheet()
    folder = write_ep(
        ep_files.recording(
            kind="electrogram", signal=ep_files.electrogram(ep_files.plane_wave_ms(position))[None], pacing=()
        ),
        tmp_path,
    )
    np.save(folder / "signals.npy", 1000 * np.load(folder / "signals.npy"))
    with pytest.raises(ValueError, match="probably in uV"):
        read_ep(folder)


@given(st.sampled_from(["positions.csv", "signals.npy", "meta.yaml", "triangles.csv"]), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_a_recording_or_a_sentence(tmp_path: Path, name: str, data: st.DataObject) -> None:
    folder = tmp_path / "case"
    if not folder.is_dir():
        write_ep(ep_files.recording(), folder)
    path = folder / name
    original = path.read_bytes()
    at = data.draw(st.integers(0, min(len(original) - 1, 400)))
    junk = data.draw(st.binary(min_size=1, max_size=6))
    path.write_bytes(original[:at] + junk + original[at + data.draw(st.integers(0, 6)) :])
    try:
        read_ep(folder)
    except ValueError:
        pass
    finally:
        path.write_bytes(original)
