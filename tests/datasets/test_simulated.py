"""Virtual ECGs in shards: the same whoever makes them, resumable, and readable with their truth."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ecg_gym.core import ECG
from ecg_gym.datasets import simulated
from ecg_gym.datasets.simulated import Simulation, one, read_simulated, shard_path, simulate
from ecg_gym.virtual_patient import FINDINGS
from ecg_gym.waveform import measure

SMALL = Simulation(seed=3, rate_hz=500.0, seconds=6.0)


@pytest.fixture
def five_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "PER_SHARD", 5)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.suffix in (".csv", ".json")}


@pytest.mark.usefixtures("five_a_shard")
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert list(simulate(whole, 12, SMALL)) == [(0, 12), (5, 12), (10, 12), (12, 12)]
    begun = simulate(stopped, 12, SMALL)
    next(begun), next(begun)
    begun.close()
    (stopped / ".ecgs_00001.99.npz").write_bytes(b"half a shard")  # what kill -9 may leave
    shard_path(stopped, 2).write_bytes(shard_path(whole, 2).read_bytes())
    assert list(simulate(stopped, 12, SMALL)) == [(7, 12), (12, 12)]
    assert contents(whole) == contents(stopped)
    for shard in range(3):
        a, b = read_simulated(whole, [shard]), read_simulated(stopped, [shard])
        np.testing.assert_array_equal(a.signal, b.signal)
        np.testing.assert_array_equal(a.intervals, b.intervals)
    assert list(simulate(whole, 12, SMALL)) == [(12, 12)]  # nothing left to do


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    """Two processes make two whole shards of their own."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    settings = Simulation(seed=1, rate_hz=100.0, seconds=2.0)
    for folder, workers in ((alone, 1), (together, 2)):
        assert list(simulate(folder, simulated.PER_SHARD + 20, settings, workers))[-1] == (520, 520)
    assert contents(alone) == contents(together)
    np.testing.assert_array_equal(read_simulated(alone).signal, read_simulated(together).signal)


@pytest.mark.usefixtures("five_a_shard")
def test_what_is_read_is_what_was_made(tmp_path: Path) -> None:
    list(simulate(tmp_path, 7, SMALL))
    ecgs = read_simulated(tmp_path)
    assert len(ecgs) == 7
    signal, truth, person = one(6, SMALL)
    np.testing.assert_allclose(ecgs.leads_mv()[6], signal, atol=2.5e-3)
    np.testing.assert_allclose(ecgs.intervals[6], list(truth.intervals.values()), rtol=1e-5)
    np.testing.assert_array_equal(ecgs.findings[6], truth.findings)
    last = slice(int(ecgs.n_beats[:6].sum()), None)
    assert tuple(ecgs.beats[last]) == truth.kinds
    np.testing.assert_allclose(ecgs.marks["qrs_onset"][last], truth.fiducials["qrs_onset"])
    assert ecgs.n_p.sum() == len(ecgs.marks["p_onset"])
    assert (ecgs.concentration[6] > 0).sum() == len(truth.concentrations)
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert [int(row["number"]) for row in rows] == list(range(7))
    assert rows[6]["given"] == person["given"]
    assert [int(rows[6][name]) for name in FINDINGS] == truth.findings.astype(int).tolist()


@pytest.mark.usefixtures("five_a_shard")
def test_intervals_can_be_measured_from_the_shards(tmp_path: Path) -> None:
    list(simulate(tmp_path, 5, Simulation(healthy=True, treated=0.0)))
    ecgs = read_simulated(tmp_path)
    intervals = measure(ECG(ecgs.leads_mv(), ecgs.rate_hz))
    column = simulated.INTERVALS.index("qt_ms")
    np.testing.assert_allclose(intervals.qt_ms, ecgs.intervals[:, column], atol=15)


def test_other_settings_and_nonsense_are_refused(tmp_path: Path) -> None:
    next(simulate(tmp_path, 1, SMALL))
    with pytest.raises(ValueError, match="other settings \\(seed\\)"):
        next(simulate(tmp_path, 1, Simulation(seed=4, rate_hz=500.0, seconds=6.0)))
    with pytest.raises(ValueError, match="expected both at least 1"):
        next(simulate(tmp_path, 0, SMALL))
    with pytest.raises(ValueError, match="share from 0 to 1"):
        Simulation(treated=1.5)
    with pytest.raises(ValueError, match="50 to 4000 Hz"):
        Simulation(rate_hz=1.0)
    with pytest.raises(ValueError, match="lacks the shards"):
        read_simulated(tmp_path / "nowhere")


def test_an_interrupt_stops_the_workers_within_seconds(tmp_path: Path) -> None:
    code = (
        "import signal; from pathlib import Path; from ecg_gym.datasets import simulate\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it\n"
        f"out = Path({str(tmp_path / 'out')!r})\n"
        "if __name__ == '__main__':\n    for done, n in simulate(out, 100_000, workers=2):\n"
        "        print(done, flush=True)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    time.sleep(3)  # the workers are at it
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0  # all shards would take many minutes
