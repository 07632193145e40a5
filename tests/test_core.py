"""The nouns: leads, doses, states. Symmetries and closed forms."""

import numpy as np
import pytest

from ecg_gym.core import (
    ECG,
    LEADS,
    MODEL_SAMPLES,
    Administration,
    Dose,
    Patient,
    State,
    Treatment,
    as_twelve_leads,
    concatenate,
    independent_from_leads,
    limb_from_independent,
    parse_dose,
    row_generators,
    row_streams,
)


def a_state(n: int) -> State:
    return State(
        ecg=np.arange(n, dtype=np.float32)[:, None, None] * np.ones((1, 12, MODEL_SAMPLES), np.float32),
        patients=tuple(Patient(age_years=20 + i) for i in range(n)),
        doses=tuple(() for _ in range(n)),
        hours=np.arange(n, dtype=float),
        alive=np.ones(n, bool),
        inner={"latent": np.arange(n)[:, None] * np.ones((1, 4))},
    )


def test_einthoven_and_goldberger_hold_exactly() -> None:
    independent = np.random.default_rng(0).standard_normal((3, 8, 50))
    ecg = ECG(limb_from_independent(independent), 100.0)
    one, two, three = (ecg.lead(name) for name in ("I", "II", "III"))
    np.testing.assert_allclose(two, one + three, atol=1e-6)
    np.testing.assert_allclose(ecg.lead("aVR") + ecg.lead("aVL") + ecg.lead("aVF"), 0, atol=1e-6)
    np.testing.assert_allclose(ecg.lead("aVF"), (two + three) / 2, atol=1e-6)
    np.testing.assert_allclose(independent_from_leads(ecg.signal), independent, atol=1e-6)


def test_leads_are_taken_by_name_in_any_order() -> None:
    rows = {lead: np.full(10, i, float) for i, lead in enumerate(LEADS)}
    shuffled = {lead: rows[lead] for lead in sorted(rows)}
    np.testing.assert_array_equal(ECG.from_leads(rows, 500).signal, ECG.from_leads(shuffled, 500).signal)


@pytest.mark.parametrize(
    ("signal", "rate", "words"),
    [
        (np.zeros((3, 100)), 500, "expected \\(12, T\\)"),
        (np.zeros(100), 500, "expected \\(12, T\\)"),
        (np.zeros((12, 100)), 0, "positive sampling rate"),
    ],
)
def test_an_ecg_of_the_wrong_form_is_refused(signal: np.ndarray, rate: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ECG(signal, rate)


def test_missing_or_strange_leads_are_named() -> None:
    with pytest.raises(ValueError, match="leads are"):
        ECG.from_leads({"I": np.zeros(10), "MLII": np.zeros(10)}, 360)


def test_a_word_is_not_a_set_of_conditions() -> None:
    with pytest.raises(TypeError, match=r"conditions is the word 'asthma'; expected a set of words; pass conditions="):
        Patient(conditions="asthma")
    assert Patient(conditions={"asthma"}).conditions == frozenset({"asthma"})


@pytest.mark.parametrize(
    "field",
    [{"age_years": 1e6}, {"age_years": 5}, {"potassium": -3}, {"potassium": 45}, {"magnesium": 20}, {"calcium": 9.4},
     {"weight_kg": 3}, {"height_cm": 1.8}, {"creatinine_clearance": 0}],
)  # fmt: skip
def test_what_no_adult_has_is_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .* to .*; check the figure and its unit"):
        Patient(**field)


def test_state_rows_repeat_and_where() -> None:
    state = a_state(4)
    assert len(state[2]) == 1
    assert state[2].patients[0].age_years == 22
    assert state.repeat(2).hours.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    swapped = state.where(np.array([True, False, True, False]), state[::-1])
    assert swapped.hours.tolist() == [0, 2, 2, 0]
    assert swapped.inner["latent"][:, 0].tolist() == [0, 2, 2, 0]
    assert concatenate([state[:1], state[3:]]).hours.tolist() == [0, 3]


def test_a_treatment_is_a_set() -> None:
    a, b = Dose("a", 1, "mg", "PO"), Dose("b", 2, "mg", "IV")
    assert Treatment((a, b)) == Treatment((b, a))
    assert str(Treatment()) == "watch and wait"
    assert not Treatment()


@pytest.mark.parametrize(
    ("text", "dose"),
    [
        ("dofetilide 0.5 mg PO", Dose("dofetilide", 0.5, "mg", "PO")),
        ("Potassium chloride 20 mmol iv over 60 min", Dose("potassium_chloride", 20, "mmol", "IV", 1.0)),
        ("esmolol .5 mg/kg IV", Dose("esmolol", 0.5, "mg/kg", "IV")),
        ("dofetilide 500 µg", Dose("dofetilide", 500, "mcg", "")),
        ("dofetilide 500 \u03bcg", Dose("dofetilide", 500, "mcg", "")),  # Greek mu, not the micro sign
        ("amiodarone 150 mg IV over 10 minutes", Dose("amiodarone", 150, "mg", "IV", 1 / 6)),
        ("amiodarone 150 mg IV over 1 h", Dose("amiodarone", 150, "mg", "IV", 1.0)),
        ("diltiazem 5 mg/hr IV over 2 hours", Dose("diltiazem", 5, "mg/h", "IV", 2.0)),
        ("esmolol 50 ug/kg/minute i.v. over 90 sec", Dose("esmolol", 50, "mcg/kg/min", "IV", 0.025)),
        ("potassium chloride 20 mEq IV over 1 hr", Dose("potassium_chloride", 20, "mmol", "IV", 1.0)),
        ("magnesium 16 mEq IV", Dose("magnesium", 16, "mEq", "IV")),  # two charges: not a mmol, and refused later
        ("insulin 10 units IV", Dose("insulin", 10, "U", "IV")),
        ("dofetilide 0.5 MG oral", Dose("dofetilide", 0.5, "mg", "PO")),
    ],
)
def test_doses_are_read_from_words(text: str, dose: Dose) -> None:
    assert parse_dose(text) == dose


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dofetilide",
        "0.5 mg",
        "dofetilide -1 mg PO",
        "dofetilide 1 mg by ear",
        "dofetilide 1 mg PO over 5 fortnights",
    ],
)
def test_what_is_no_dose_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected 'DRUG AMOUNT UNIT"):
        parse_dose(text)


def test_row_generators_do_not_depend_on_the_batch() -> None:
    whole = [g.standard_normal() for g in row_generators(np.random.default_rng(5), 6)]
    seeds = np.random.default_rng(5).integers(0, 2**63, size=6)
    assert [np.random.default_rng(s).standard_normal() for s in seeds] == whole
    with pytest.raises(ValueError, match="expected one per row"):
        row_generators([np.random.default_rng(0)], 2)


def a_lazy_state(n: int, calls: list[int]) -> State:
    """People whose strips are drawn when somebody looks: their hours as millivolts."""

    def draw(state: State) -> np.ndarray:
        calls.append(len(state))
        return state.hours[:, None, None].astype(np.float32) * np.ones((1, 12, MODEL_SAMPLES), np.float32)

    return a_state(n).replaced(ecg=draw)


@pytest.mark.parametrize(
    "index",
    [[3, 1], np.array([3, 1]), np.array([3, 1], np.uint8), np.array([False, True, False, True]), slice(1, 4, 2)],
)
def test_rows_are_chosen_in_every_way_numpy_knows(index: object) -> None:
    rows = a_state(4)[index]  # type: ignore[index]
    expected = np.arange(4)[index]  # type: ignore[call-overload]
    assert rows.hours.tolist() == expected.tolist()
    assert [patient.age_years for patient in rows.patients] == [20 + i for i in expected]
    assert rows.ecg[:, 0, 0].tolist() == rows.inner["latent"][:, 0].tolist() == expected.tolist()
    assert a_state(4)[-1].hours.tolist() == a_state(4)[np.array(3)].hours.tolist() == [3]


def test_parts_take_the_places_they_are_given() -> None:
    dose = Administration(0.0, Dose("dofetilide", 0.5, "mg", "PO"))
    state = a_state(4).replaced(dt_hours=np.arange(4.0), alive=np.array([True, True, True, False]))
    part = state[[3, 0]].replaced(doses=((dose,), ()), hours=np.array([9.0, 8.0]))
    whole = state.placed([(np.array([1, 2]), part)])
    assert whole.hours.tolist() == [0, 9, 8, 3]
    assert whole.alive.tolist() == [True, False, True, False]
    assert whole.dt_hours is not None
    assert whole.dt_hours.tolist() == [0, 3, 0, 3]
    assert whole.ecg[:, 0, 0].tolist() == whole.inner["latent"][:, 0].tolist() == [0, 3, 0, 3]
    assert [patient.age_years for patient in whole.patients] == [20, 23, 20, 23]
    assert [len(doses) for doses in whole.doses] == [0, 1, 0, 0]
    assert state.hours.tolist() == [0, 1, 2, 3], "the state itself stays"
    assert a_state(2).placed([]).dt_hours is None


def test_strips_are_drawn_when_somebody_looks_and_once() -> None:
    calls: list[int] = []
    state = a_lazy_state(3, calls)
    late = state.replaced(hours=np.array([5.0, 6.0, 7.0]))
    for made in (
        state[[2, 0]],
        concatenate([state, late]),
        state.placed([(np.array([1]), late[[1]])]),
        state.repeat(2),
    ):
        assert not calls, "nobody has looked yet"
        assert made.ecg[:, 0, 0].tolist() == made.hours.tolist()
        assert made.ecg is made.ecg
        assert calls == [len(made)]
        again = made.undrawn()
        assert made.undrawn() is not made
        assert again.ecg[:, 0, 0].tolist() == made.hours.tolist()
        assert calls == [len(made)] * 2
        calls.clear()
    assert a_state(2).undrawn().ecg.shape == (2, 12, MODEL_SAMPLES), "what nothing can draw again is kept"


def test_strips_of_two_makers_are_drawn_before_they_are_joined() -> None:
    calls: list[int] = []
    one, other = a_lazy_state(2, calls), a_lazy_state(2, calls).replaced(hours=np.array([7.0, 8.0]))
    joined = concatenate([one, a_state(2), other])
    assert joined.ecg[:, 0, 0].tolist() == [0, 1, 0, 1, 7, 8]
    assert calls == [2, 2]
    doubled = a_state(2).replaced(ecg=lambda state: 2 * a_lazy_state(2, calls).replaced(hours=state.hours).ecg)
    assert concatenate([one, doubled]).ecg[:, 0, 0].tolist() == [0, 1, 0, 2]
    mixed = one.placed([(np.array([0]), a_state(2)[[1]])])
    assert mixed.ecg[:, 0, 0].tolist() == [1, 1]


def test_paces_are_joined_row_by_row() -> None:
    state = a_state(2).replaced(dt_hours=np.array([0.5, 1.0]))
    joined = concatenate([state, state[[1]]])
    assert joined.dt_hours is not None
    assert joined.dt_hours.tolist() == [0.5, 1.0, 1.0]
    assert concatenate([a_state(1), a_state(2)]).dt_hours is None


def test_eight_leads_become_twelve_and_other_numbers_are_refused() -> None:
    independent = np.random.default_rng(0).standard_normal((2, 8, MODEL_SAMPLES))
    twelve = as_twelve_leads(independent)
    np.testing.assert_allclose(independent_from_leads(twelve), independent, atol=1e-6)
    np.testing.assert_array_equal(as_twelve_leads(twelve), twelve)
    for shape in ((2, 9, MODEL_SAMPLES), (2, 12, 1000), (12, MODEL_SAMPLES)):
        with pytest.raises(ValueError, match=r"ecg has shape .*expected \(B, 12, 1024\)"):
            as_twelve_leads(np.zeros(shape))


def test_a_notebook_shows_the_first_strip_and_says_so() -> None:
    strips = np.zeros((2, 12, 500))
    strips[1, 0, 100:300] = 1.0
    alone, batch = ECG(strips[0], 250.0, missing=("V6",)), ECG(strips, 250.0)
    assert "ECG, 2 s at 250 Hz, missing V6" in alone._repr_html_()
    assert "ECG, 2 s at 250 Hz, first of 2" in batch._repr_html_()
    assert "missing" not in batch._repr_html_()
    plain = [page.replace(", first of 2", "").replace(", missing V6", "") for page in
             (batch._repr_html_(), alone._repr_html_(), ECG(strips[1], 250.0)._repr_html_())]  # fmt: skip
    assert plain[0] == plain[1] != plain[2]


def test_row_streams_have_keys_of_64_bits_and_hand_streams_through() -> None:
    streams = row_streams(np.random.default_rng(5), 400)
    np.testing.assert_array_equal(streams.key, row_streams(np.random.default_rng(5), 400).key)
    assert len(np.unique(streams.key)) == 800
    assert (streams.key >= 2**63).any(), "the highest bit is used"
    assert row_streams(streams, 400) is streams
    with pytest.raises(ValueError, match="expected one per row"):
        row_streams(streams, 3)
