"""Ectopic beats are found where there are some, and come back in strips that are drawn."""

import numpy as np
import pytest

from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S
from ecg_gym.physiology import draw_beats, find_ectopy, overlay, recorded_places, with_episodes
from ecg_gym.physiology.ectopy import NONE, Ectopy, Episode, Placement
from ecg_gym.physiology.rr_series import STRIP_S
from ecg_gym.virtual_patient import VirtualPatient

EARLY = Episode(np.ones((8, 82), np.float32), (0.0,), 0.6, 1.4)
RUN = Episode(np.ones((8, 170), np.float32), (0.0, 0.4, 0.8), 0.6, 1.2)


def strips(rhythm, n=8, seed=1):
    return VirtualPatient().initial(n, np.random.default_rng(seed), rhythm=rhythm).ecg


@pytest.mark.parametrize("rhythm", ["sinus", "af", "flutter", "svt", "paced", "vt"])
def test_rhythms_of_one_kind_of_beat_have_none(rhythm):
    assert all(not ectopy.episodes for ectopy in find_ectopy(strips(rhythm)))


@pytest.mark.parametrize(("rhythm", "longest"), [("pvc", 1), ("couplets", 2), ("vt_runs", 7)])
def test_extrasystoles_are_found_with_their_runs(rhythm, longest):
    per_strip = find_ectopy(strips(rhythm))
    lengths = [len(episode.beats_s) for ectopy in per_strip for episode in ectopy.episodes]
    assert sum(bool(ectopy.episodes) for ectopy in per_strip) >= 7
    assert max(lengths) <= longest
    assert max(lengths) > 1 or longest == 1
    assert all(0.3 < episode.coupling < 0.95 for ectopy in per_strip for episode in ectopy.episodes)


def test_in_bigeminy_every_second_beat_is_ectopic():
    often = [ectopy.per_beat for ectopy in find_ectopy(strips("bigeminy")) if ectopy.episodes]
    assert np.median(often) == pytest.approx(1.0, abs=0.2)


def test_room_is_made_and_the_mean_rate_stays():
    beats = draw_beats(np.random.default_rng(0), np.array([72.0]))[0]
    for episode in (EARLY, RUN):
        for seed in range(20):
            series, places = with_episodes(
                np.random.default_rng(seed), beats, R_PEAK_OFFSET_S, Ectopy((episode,), (3.0,), 0.15)
            )
            assert len(series) == len(beats)
            count = [(R_PEAK_OFFSET_S + np.cumsum(row) < STRIP_S).sum() for row in (beats, series)]
            assert abs(count[0] - count[1]) <= 1
            times = R_PEAK_OFFSET_S + np.r_[0, np.cumsum(series)]
            for place in places:
                if place.at_s < STRIP_S:
                    assert np.abs(times - place.at_s).min() < 1e-9


def test_how_often_follows_what_is_asked_and_the_generator_does_not():
    beats = draw_beats(np.random.default_rng(0), np.array([60.0]))[0]
    ectopy = Ectopy((EARLY,), (3.0,), 0.2)

    def count(often, least=0):
        return np.mean([len(with_episodes(np.random.default_rng(s), beats, 0.4, ectopy, often, least)[1])
                        for s in range(200)])  # fmt: skip

    assert count(0.0) == 0
    assert count(0.0, least=1) == 1
    assert count(0.5) < count(1.0) < count(2.0)
    generators = [np.random.default_rng(5) for _ in range(2)]
    with_episodes(generators[0], beats, 0.4, NONE)
    with_episodes(generators[1], beats, 0.4, ectopy)
    assert generators[0].random() == generators[1].random()


def test_an_episode_is_drawn_where_it_stands_and_nowhere_else():
    trace = np.zeros((8, MODEL_SAMPLES), np.float32)
    strip_mv = overlay(trace, [Placement(5.0, EARLY)], level_mv=np.full(8, 0.5))
    at = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ
    assert strip_mv[:, np.argmin(np.abs(at - 5.1))] == pytest.approx(1.5)
    assert not strip_mv[:, at < 4.8].any()
    assert not strip_mv[:, at > 5.8].any()
    assert not trace.any()


def test_the_nearest_length_stands_where_another_strip_has_its_own():
    own, then = Ectopy((EARLY, RUN), (1.0, 4.0), 0.2), Ectopy((RUN, EARLY), (2.5, 7.0), 0.2)
    assert recorded_places(own, then) == [Placement(2.5, RUN), Placement(7.0, EARLY)]
    assert recorded_places(NONE, then) == []


def test_a_drawn_strip_shows_its_extrasystoles_to_the_delineator():
    ecg = strips("pvc", 4)
    again = [
        overlay(np.zeros((8, MODEL_SAMPLES), np.float32), recorded_places(ectopy, ectopy))
        for ectopy in find_ectopy(ecg)
    ]
    for strip, ectopy in zip(again, find_ectopy(ecg)):
        peaks = np.abs(strip).max(axis=0)
        for start in ectopy.starts_s:
            assert peaks[round(start * MODEL_RATE_HZ) - 6 : round(start * MODEL_RATE_HZ) + 6].max() > 0.3
    assert ECG(ecg, MODEL_RATE_HZ).signal.shape[0] == 4
