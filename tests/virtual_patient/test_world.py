"""The virtual patient: laws that hold exactly, signs a cardiologist expects, and what is asked for is what is shown."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_gym.checks import check_world
from ecg_gym.core import LEADS, WATCH, Patient
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import FINDINGS, Heart, VirtualPatient, draw_heart, synthesise
from ecg_gym.virtual_patient.activation import atrial_map, region, ventricular_map
from ecg_gym.virtual_patient.anatomy import ventricles
from ecg_gym.virtual_patient.beat import beat_shape, electrode_strip
from ecg_gym.virtual_patient.beat_shapes import typical_beat_of
from ecg_gym.virtual_patient.heart import N_POSES
from ecg_gym.virtual_patient.lead_field import Pose, electrode_matrix
from ecg_gym.virtual_patient.noise import electrode_noise
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.repolarisation import rate_factor
from ecg_gym.virtual_patient.rhythm import Train, train_of
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.strip import usual_beat
from ecg_gym.virtual_patient.truth import hazards


def average(**changes: object) -> Heart:
    """An average adult, clean recording, default pose."""
    heart = draw_heart(np.random.default_rng(3), Patient(sex="F"), "sinus", "normal", "", healthy=True)
    usual = {"pose": 0, "r_gain": 1.0, "t_gain": 1.0, "p_gain": 1.0, "noise": 0.0, "rate_bpm": 60.0, "qrs_ms": 95.0}
    return replace(heart, **{**usual, **changes})


def median_cycle(heart: Heart, change: Modulation = REST) -> np.ndarray:
    """(12, 350) one beat at 500 Hz from 150 ms before its QRS onset, baseline before P removed."""
    signal, truth = synthesise(heart, change, np.random.default_rng(0), 500.0)
    starts = [round((q - 0.3) * 500) for q in truth.qrs_s if 0.3 < q < 9]
    beats = np.stack([signal[:, s : s + 425] for s in starts])
    beat = np.median(beats, axis=0)
    return beat - beat[:, :20].mean(axis=1, keepdims=True)


def test_einthoven_and_goldberger_hold_with_noise() -> None:
    signal, _ = synthesise(average(noise=2.0), REST, np.random.default_rng(1))
    row = dict(zip(LEADS, signal))
    np.testing.assert_allclose(row["II"], row["I"] + row["III"], atol=1e-5)
    np.testing.assert_allclose(row["aVR"] + row["aVL"] + row["aVF"], 0, atol=1e-5)


def test_an_evenly_charged_heart_is_silent() -> None:
    rows = electrode_matrix(ventricles(), Pose((0.1, -0.2, 0.1), (5, 5, 0), 1.05))
    assert np.abs(rows.sum(axis=1)).max() < 1e-9 * np.abs(rows).max()


def test_a_beat_begins_and_ends_at_rest() -> None:
    rows = electrode_matrix(ventricles())
    fire = ventricular_map("normal")
    shape = beat_shape(rows, fire, np.zeros(len(fire)), 500.0, 23.0)
    strip = electrode_strip([(shape, 0.1, 280.0)], len(rows), 500.0, 500)
    peak = np.abs(strip).max()
    assert np.abs(strip[:, :20]).max() < 1e-3 * peak
    assert np.abs(strip[:, -20:]).max() < 1e-3 * peak


def test_equal_action_potentials_repolarise_like_they_depolarised_reversed() -> None:
    """With one APD everywhere T is the QRS again, smeared and upside down: the areas cancel (Wilson's gradient)."""
    rows, fire = electrode_matrix(ventricles()), ventricular_map("normal")
    shape = beat_shape(rows, fire, np.zeros(len(fire)), 500.0, 23.0)
    strip = electrode_strip([(shape, 0.1, 280.0)], len(rows), 500.0, 500)
    qrs, t = strip[:, :150].sum(axis=1), strip[:, 150:].sum(axis=1)
    np.testing.assert_allclose(t, -qrs, atol=0.12 * np.abs(qrs).max())


def test_the_twelve_leads_look_like_a_persons() -> None:
    beat = dict(zip(LEADS, median_cycle(average())))
    qrs, t = slice(150, 200), slice(230, 400)
    for lead in ("I", "II", "V4", "V5", "V6"):
        assert beat[lead][qrs].max() > 0.4, lead
    for lead in ("I", "II", "V2", "V3", "V4", "V5", "V6"):
        assert beat[lead][t].max() > 0.08 > -beat[lead][t].min(), lead
    assert beat["aVR"][qrs].min() < -0.4
    assert beat["aVR"][t].min() < -0.1
    r = [beat[f"V{k}"][qrs].max() for k in range(1, 5)]
    assert r == sorted(r)  # R grows from V1 to V4
    assert beat["V1"][qrs].min() < -0.5
    assert beat["II"][60:140].max() > 0.05  # an upright P


def test_intervals_are_an_adults() -> None:
    rng = np.random.default_rng(0)
    rows = [synthesise(draw_heart(rng, healthy=True), REST, rng, seconds=6.0)[1].intervals for _ in range(16)]
    mean = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    assert 390 < mean["qtcf_ms"] < 430
    assert 75 < mean["qrs_ms"] < 105
    assert 150 < mean["pr_ms"] < 175
    assert 65 < mean["tpeak_tend_ms"] < 85
    assert 8 < np.std([row["qtcf_ms"] for row in rows]) < 26


@pytest.mark.parametrize("seed", range(4))
def test_what_is_asked_of_the_t_wave_is_shown(seed: int) -> None:
    heart = draw_heart(np.random.default_rng(seed), healthy=True)
    before = typical_beat_of(heart, REST, "normal", 1.0)
    after = typical_beat_of(heart, Modulation(jtpeak_ms=30, tpeak_tend_ms=25), "normal", 1.0)
    assert after.jtpeak_ms - before.jtpeak_ms == pytest.approx(30, abs=2)
    wider = (after.qt_ms - after.qrs_ms - after.jtpeak_ms) - (before.qt_ms - before.qrs_ms - before.jtpeak_ms)
    assert wider == pytest.approx(25, abs=2)
    assert after.t_amplitude_mv < before.t_amplitude_mv


def test_qt_follows_the_rate_nearly_as_fridericia() -> None:
    heart = average()
    for rr in (0.6, 0.8, 1.2):
        corrected = typical_beat_of(heart, REST, "normal", rr).qt_ms / np.cbrt(rr)
        assert corrected == pytest.approx(typical_beat_of(heart, REST, "normal", 1.0).qt_ms, abs=14)
    assert rate_factor(np.array(1.0), np.array(1.0)) == 1.0


def test_slow_conduction_widens_qrs_and_pr_moves_p() -> None:
    heart = average()
    slow = typical_beat_of(heart, Modulation(conduction=0.8), "normal", 1.0)
    assert slow.qrs_ms == pytest.approx(typical_beat_of(heart, REST, "normal", 1.0).qrs_ms / 0.8, abs=6)
    rng = np.random.default_rng
    longer = synthesise(heart, Modulation(pr_ms=40), rng(0))[1].intervals["pr_ms"]
    # The strip cuts the same train elsewhere, so the median is over other beats: 5 ms of scatter each.
    assert longer - synthesise(heart, REST, rng(0))[1].intervals["pr_ms"] == pytest.approx(40, abs=3)


@pytest.mark.parametrize("path", ["lbbb", "rbbb", "bifascicular"])
def test_block_widens_qrs(path: str) -> None:
    assert typical_beat_of(average(), REST, path, 1.0).qrs_ms > 120


def test_pre_excitation_shortens_pr_and_more_so_the_slower_the_node() -> None:
    """The delta wave begins at a fixed time after P; a drug that slows the node widens QRS and leaves PR."""
    heart = average(conduction="preexcited", pr_ms=150.0)
    rest, slowed = (synthesise(heart, m, np.random.default_rng(0))[1] for m in (REST, Modulation(pr_ms=60)))
    assert rest.intervals["pr_ms"] < 120
    assert slowed.intervals["pr_ms"] == pytest.approx(rest.intervals["pr_ms"], abs=3)
    assert slowed.intervals["qrs_ms"] > rest.intervals["qrs_ms"] + 20
    assert set(synthesise(replace(heart, pr_ms=90.0), REST)[1].kinds) == {"normal"}


def r_and_s(path: str, lead: str) -> tuple[float, float]:
    """Height of R and depth of S [mV] of a beat along that path."""
    heart = average(rhythm="vt") if path == "ectopic_lv" else average(conduction=path)
    beat = median_cycle(average(rhythm="paced", rate_bpm=60.0) if path == "paced" else heart)
    qrs = beat[LEADS.index(lead), 140:260]
    return float(qrs.max()), -float(qrs.min())


def test_blocks_and_foci_show_their_signs() -> None:
    """As on paper: Surawicz and Knilans 2008."""
    r, s = r_and_s("lbbb", "V6")
    assert r > 0.6
    assert s < 0.2
    r, s = r_and_s("lbbb", "V1")
    assert s > 3 * r
    assert r_and_s("rbbb", "V1")[0] > 0.4  # R'
    assert r_and_s("rbbb", "V6")[1] > 0.15  # a slurred S
    for lead in ("II", "III", "aVF"):  # a left axis
        assert np.subtract(*r_and_s("bifascicular", lead)) < 0
    assert np.subtract(*r_and_s("bifascicular", "I")) > 0.2


def q_of(scar: str, lead: str) -> float:
    """Depth of Q relative to R [1]; a QS counts as more than 1."""
    beat = median_cycle(average(scar=scar))[LEADS.index(lead), 140:215]
    top = int(np.argmax(beat))
    return -float(beat[: top + 1].min()) / max(float(beat.max()), 0.02)


def test_old_infarctions_leave_q_waves_where_they_lie() -> None:
    for scar, leads in (("inferior", ("II", "III", "aVF")), ("anterior", ("V2", "V3")), ("lateral", ("aVL", "V6"))):
        for lead in leads:
            assert q_of(scar, lead) > q_of("", lead) + 0.1, (scar, lead)


def st(injury: str, lead: str) -> float:
    """ST level 60 ms behind J against the level before P [mV]."""
    beat = median_cycle(average(injury=injury))
    return float(beat[LEADS.index(lead), 150 + 48 + 30])


def test_acute_injury_lifts_st_over_it_and_lowers_it_opposite() -> None:
    for injury, up, down in (("anterior", "V3", "aVL"), ("inferior", "III", "aVL"), ("lateral", "V6", "V1")):
        assert st(injury, up) > 0.1 > 0 > st(injury, down), injury


def test_every_pose_shows_what_is_asked() -> None:
    """No heart of the library has a T wave of two humps within the reach of drugs (they are left out by number)."""
    for pose in range(N_POSES):
        for t_gain, longer in ((0.8, 0.0), (1.0, 30.0), (1.3, 60.0)):
            heart = average(pose=pose, t_gain=t_gain, tpeak_tend_ms=75.0, qtcf_ms=410.0)
            beat = typical_beat_of(heart, Modulation(jtpeak_ms=10, tpeak_tend_ms=longer), "normal", 1.0)
            assert beat.qt_ms == pytest.approx(420 + longer, abs=2), pose
            assert beat.qt_ms - beat.qrs_ms - beat.jtpeak_ms == pytest.approx(75 + longer, abs=3), pose
            assert beat.qrs_ms == pytest.approx(95, abs=1), pose


@pytest.mark.parametrize("rhythm", sorted(rhythms()))
def test_every_rhythm_makes_a_strip_and_marks_in_order(rhythm: str) -> None:
    for seed in range(3):
        heart = draw_heart(np.random.default_rng(seed), rhythm=rhythm)
        signal, truth = synthesise(heart, REST, np.random.default_rng(seed), 500.0)
        assert signal.shape == (12, 5000)
        assert np.isfinite(signal).all()
        assert np.abs(signal).max() < 8
        assert len(truth.kinds) == len(truth.qrs_s)
        assert (np.diff(truth.qrs_s) > 0).all()
        if not len(truth.qrs_s):
            continue
        marks = truth.fiducials
        rows = np.stack([marks[n] for n in ("qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end")])
        known = np.isfinite(rows).all(axis=0)
        assert (np.diff(rows[:, known], axis=0) > 0).all()
        if len(truth.p_s):
            assert (marks["p_onset"] < marks["p_peak"]).all()
            assert (marks["p_peak"] < marks["p_end"]).all()


def test_nodal_block_follows_the_node_and_infranodal_block_does_not() -> None:
    def conducted(rhythm: str, change: Modulation) -> float:
        trains = [
            synthesise(average(rhythm=rhythm, rate_bpm=75.0), change, np.random.default_rng(k))[1] for k in range(6)
        ]
        return float(np.mean([len(t.qrs_s) / max(1, len(t.p_s)) for t in trains]))

    faster_node, slower_node = Modulation(av_rate=1.5), Modulation(av_rate=0.7)
    assert (
        conducted("av_block_2", faster_node)
        > 0.9
        > conducted("av_block_2", REST)
        > conducted("av_block_2", slower_node)
    )
    assert conducted("av_block_2_mobitz2", faster_node) == conducted("av_block_2_mobitz2", REST)
    assert conducted("av_block_2_mobitz2", Modulation(sinus_rate=1.7)) < conducted("av_block_2_mobitz2", REST)
    assert "escape" not in synthesise(average(rhythm="av_block_3_nodal"), Modulation(av_rate=1.5))[1].kinds


def test_torsade_follows_a_long_qt_and_an_early_beat() -> None:
    _, truth = synthesise(
        draw_heart(np.random.default_rng(0), rhythm="torsade", conduction="normal"), REST, np.random.default_rng(0)
    )
    first = truth.kinds.index("torsade")
    assert truth.kinds[first - 1].startswith("ectopic")
    assert set(truth.kinds[: first - 1]) == {"normal"}
    assert truth.findings[FINDINGS.index("Ventricular tachycardia")]
    assert 180 < 60 / np.median(np.diff(truth.qrs_s[first:])) < 280


def test_flutter_waves_keep_step_with_the_beats() -> None:
    _, truth = synthesise(average(rhythm="flutter_slow", rate_bpm=73.0), REST, np.random.default_rng(1))
    assert np.diff(truth.qrs_s).std() < 0.02
    assert truth.intervals["hr_bpm"] == pytest.approx(290 / 4, rel=0.15)


def test_runs_of_ectopic_beats_are_what_they_are_called() -> None:
    def longest(rhythm: str) -> int:
        runs = []
        for seed in range(8):
            kinds = synthesise(average(rhythm=rhythm, rate_bpm=74.0), REST, np.random.default_rng(seed))[1].kinds
            marks = "".join("v" if "ectopic" in kind else "." for kind in kinds)
            runs.append(max(map(len, marks.split("."))))
        return max(runs)

    assert longest("couplets") == 2
    assert longest("vt_runs") >= 3
    assert longest("pvc") == 1


def test_bundle_branch_blocks_point_where_they_should() -> None:
    left = dict(zip(LEADS, median_cycle(average(conduction="lbbb"))))
    right = dict(zip(LEADS, median_cycle(average(conduction="rbbb"))))
    late = slice(185, 225)
    assert left["V1"][150:225].min() < -0.6
    assert left["V6"][150:225].max() > 0.5
    assert right["V1"][late].max() > 0.2  # a terminal R'
    assert right["V6"][late].min() < -0.05  # a terminal S


def test_rhythms_are_what_they_are_called() -> None:
    rng = np.random.default_rng(2)
    _, af = synthesise(average(rhythm="af", rate_bpm=90.0), REST, rng)
    rr = np.diff(af.qrs_s)
    assert rr.std() / rr.mean() > 0.12
    assert len(af.p_s) == 0
    assert np.isnan(af.intervals["pr_ms"])
    assert af.findings[FINDINGS.index("Atrial fibrillation")]
    _, block = synthesise(average(rhythm="av_block_3", rate_bpm=80.0), REST, rng)
    assert 28 < block.intervals["hr_bpm"] < 45
    assert len(block.p_s) > 1.5 * len(block.qrs_s)
    _, first = synthesise(average(pr_ms=240.0), REST, rng)
    assert first.findings[FINDINGS.index("1st degree atrioventricular block")]
    assert first.findings[FINDINGS.index("Atrioventricular block")]
    _, twos = synthesise(average(rhythm="bigeminy", rate_bpm=75.0), REST, rng)
    assert 0.3 < np.mean([k == "ectopic_lv" for k in twos.kinds]) < 0.7


def _train(*kinds: str, conducted: str = "") -> Train:
    train = train_of(np.arange(len(kinds), dtype=float), "normal")
    pr = np.array([0.16 if kind == conducted else np.nan for kind in kinds])
    return replace(train, kind=kinds, pr_s=pr)


def test_the_usual_beat_of_a_tie_is_the_first() -> None:
    """Not a matter of string hashes, which differ from process to process: truths and hazards hang on it."""
    assert usual_beat(_train(*("normal", "ectopic_lv") * 4))[0] == "normal"
    assert usual_beat(_train(*("ectopic_lv", "normal") * 4))[0] == "ectopic_lv"
    assert usual_beat(_train("ectopic_lv", "normal", "normal"))[0] == "normal"


def test_intervals_are_read_from_conducted_beats_once_they_are_a_third() -> None:
    assert usual_beat(_train("ectopic_lv", "ectopic_lv", "normal", conducted="normal"))[0] == "normal"
    assert usual_beat(_train(*("ectopic_lv",) * 3, "normal", conducted="normal"))[0] == "ectopic_lv"


def test_rate_control_slows_fibrillation_and_not_the_sinus_node() -> None:
    slower = Modulation(av_rate=0.7)
    fast = average(rhythm="af_rapid", rate_bpm=140.0)
    rng = np.random.default_rng
    ratio = (
        synthesise(fast, slower, rng(0))[1].intervals["hr_bpm"] / synthesise(fast, REST, rng(0))[1].intervals["hr_bpm"]
    )
    assert ratio == pytest.approx(0.7, abs=0.07)
    sinus = average()
    a, b = (synthesise(sinus, m, rng(0))[1].intervals["hr_bpm"] for m in (slower, REST))
    assert a == b


def test_hazards_rise_with_what_is_dangerous() -> None:
    heart = average()
    usual = {"qtcf_ms": 420.0, "hr_bpm": 65.0}
    base = hazards(heart, REST, usual, 4.2)
    for qtcf in (450, 480, 510, 560):
        assert hazards(heart, REST, {**usual, "qtcf_ms": qtcf}, 4.2)["torsade"] > base["torsade"]
    assert hazards(heart, Modulation(ikr_block=0.5), usual, 4.2)["torsade"] > base["torsade"]
    assert hazards(heart, REST, usual, 2.9)["torsade"] > base["torsade"]
    assert hazards(heart, Modulation(av_block=0.8), usual, 4.2)["asystole"] > base["asystole"]
    assert hazards(replace(heart, scar="anterior"), REST, usual, 4.2)["vt_vf"] > base["vt_vf"]
    driven = [hazards(heart, REST, {**usual, "hr_bpm": rate}, 4.2)["vt_vf"] for rate in (200, 230, 260)]
    assert base["vt_vf"] == driven[0] < 1e-3 < driven[1] < driven[2]
    slow = Modulation(conduction=0.5)
    wide = [hazards(heart, change, usual, k)["vt_vf"] for change, k in ((slow, 6.9), (REST, 8.0), (slow, 8.0))]
    assert wide[0] < 1e-4
    assert wide[1] < 1e-4 < 1e-2 < wide[2]  # calcium narrows QRS and so takes the danger away


def test_territories_and_maps_are_sane() -> None:
    for name in ("anterior", "inferior", "lateral"):
        assert 0.02 < region(name).mean() < 0.35
    assert 80 < atrial_map().max() < 140
    assert 70 < ventricular_map("normal").max() < 100


def test_the_world_keeps_the_contract() -> None:
    check_world(VirtualPatient())


def test_a_row_does_not_depend_on_its_batch() -> None:
    world = VirtualPatient()
    state = world.initial(3, np.random.default_rng(0))
    seeds = [11, 12, 13]
    together = world.step(state, [WATCH] * 3, [np.random.default_rng(s) for s in seeds])
    alone = world.step(state[1], [WATCH], [np.random.default_rng(12)])
    np.testing.assert_array_equal(together.ecg[1], alone.ecg[0])


def test_what_is_told_is_kept_and_what_is_wrong_is_refused() -> None:
    world = VirtualPatient()
    state = world.initial(2, np.random.default_rng(0), rhythm="af_rapid", age_years=71.0, potassium=3.1)
    assert [p.age_years for p in state.patients] == [71.0, 71.0]
    assert all(t.rhythm == "af_rapid" for t in world.truth(state))
    with pytest.raises(ValueError, match="expected one of"):
        world.initial(1, np.random.default_rng(0), rhythm="waltz")
    with pytest.raises(ValueError, match="conduction is 'lbb'; expected one of normal, lbbb"):
        world.initial(1, np.random.default_rng(0), conduction="lbb")
    with pytest.raises(ValueError, match="scar is 'apical'; expected one of"):
        world.initial(1, np.random.default_rng(0), scar="apical")
    with pytest.raises(ValueError, match="treatments for 2 patients"):
        world.step(state, [WATCH], np.random.default_rng(0))
    with pytest.raises(ValueError, match="positive time"):
        VirtualPatient(dt_hours=0)


def test_noise_has_the_power_of_the_table() -> None:
    recording = population()["recording"]
    noise = electrode_noise(np.random.default_rng(0), 9, 20_000, 500.0, level=2.0)
    expected = 2.0 * np.hypot(recording["wander"]["rms_mv"], recording["muscle"]["rms_mv"])
    assert noise.std() == pytest.approx(expected, rel=0.15)
    assert np.abs(np.corrcoef(noise) - np.eye(9)).max() < 0.5
    assert not electrode_noise(np.random.default_rng(0), 9, 100, 500.0, level=0.0).any()
