"""A strip that goes on: stretched, from another moment on, without an edge."""

import pickle

import numpy as np
import pytest

from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model.first_strip import FirstStrip, record, stretch, unfinished

STRIP = np.sin(2 * np.pi * np.arange(1024) / 64)[None].repeat(12, axis=0).astype(np.float32)  # 16 waves


@pytest.mark.parametrize("faster", [0.5, 1.0, 2.0])
def test_a_stretched_strip_has_the_rate_that_is_asked_for(faster):
    stretched = stretch(STRIP, faster, key=3)
    power = np.abs(np.fft.rfft(stretched[0]))
    assert np.argmax(power) == pytest.approx(16 * faster, abs=1)


def test_no_edge_shows_where_it_ends_and_keys_begin_elsewhere():
    strips = [stretch(STRIP, 1.0, key) for key in range(5)]
    steepest = np.abs(np.diff(STRIP[0])).max()
    assert all(np.abs(np.diff(strip[0])).max() < 1.6 * steepest for strip in strips)
    assert not np.allclose(strips[0], strips[1])
    assert np.array_equal(strips[0], stretch(STRIP, 1.0, 0))


def test_what_lacks_something_is_listed_once():
    a, b = (FirstStrip(STRIP, np.zeros(8, bool)) for _ in range(2))
    b.view = STRIP
    assert unfinished([a, b, a], "view") == [a]
    assert a == b


def virtual_people(n=4):
    return VirtualPatient().initial(n, np.random.default_rng(3))


def test_a_recording_that_nobody_has_looked_at_is_that_of_its_heart():
    hearts = virtual_people()
    waiting = [FirstStrip(None, np.zeros(8, bool), origin=(hearts, row)) for row in (2, 0, 3)]
    copied = pickle.loads(pickle.dumps(waiting))
    record(waiting[:2])
    assert waiting[2].origin is not None
    for one, row in zip(waiting, (2, 0, 3)):
        np.testing.assert_allclose(one.strip, hearts.ecg[row], atol=1e-6)
        assert one.origin is None
    assert copied == waiting
