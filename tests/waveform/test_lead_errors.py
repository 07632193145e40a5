"""Leads that contradict each other are named, and undone where the laws leave one explanation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from analytic_ecg import analytic

from ecg_gym.core import ECG, LEADS
from ecg_gym.datasets import read_record
from ecg_gym.waveform.lead_errors import CHEST, LIMB, lead_errors, residual

LAWFUL = analytic(noise_mv=0.01)


def changed(rows: dict[str, np.ndarray], ecg: ECG = LAWFUL) -> ECG:
    signal = ecg.signal.copy()
    for lead, values in rows.items():
        signal[LEADS.index(lead)] = values
    return ECG(signal, ecg.rate_hz)


def test_a_lawful_strip_contradicts_in_nothing() -> None:
    assert residual(LAWFUL.signal) < 0.1
    assert [e for e in lead_errors(LAWFUL) if e.fixable] == []


@pytest.mark.parametrize("pair", list(combinations(LIMB, 2)), ids="-".join)
def test_two_exchanged_limb_leads_are_named_and_put_back(pair: tuple[str, str]) -> None:
    a, b = pair
    wrong = changed({a: LAWFUL.lead(b), b: LAWFUL.lead(a)})
    (error,) = [e for e in lead_errors(wrong) if e.fixable]
    assert (error.kind, set(error.leads)) == ("exchanged", set(pair))
    np.testing.assert_array_equal(error.repaired(wrong).signal, LAWFUL.signal)


@pytest.mark.parametrize("lead", LIMB)
def test_a_limb_lead_upside_down_is_named_and_turned(lead: str) -> None:
    wrong = changed({lead: -LAWFUL.lead(lead)})
    (error,) = [e for e in lead_errors(wrong) if e.fixable]
    assert (error.kind, error.leads) == ("inverted", (lead,))
    np.testing.assert_array_equal(error.repaired(wrong).signal, LAWFUL.signal)


def test_two_equal_leads_are_named() -> None:
    errors = lead_errors(changed({"V4": LAWFUL.lead("V5")}))
    assert ("equal", ("V4", "V5")) in [(e.kind, e.leads) for e in errors]
    assert not any(e.fixable for e in errors)


def test_what_no_single_exchange_explains_is_said_and_not_repaired() -> None:
    wrong = changed({"III": LAWFUL.lead("V1"), "aVF": LAWFUL.lead("V2"), "aVL": -LAWFUL.lead("V3")})
    (error,) = [e for e in lead_errors(wrong) if e.kind == "contradiction"]
    assert "no single exchange" in error.sentence
    with pytest.raises(ValueError, match="by hand"):
        error.repaired(wrong)


@pytest.fixture(scope="module")
def normal(real_data) -> ECG:
    folder = real_data("challenge_2020_2021")
    for header in sorted(folder.rglob("*.hea")):
        try:
            ecg = read_record(header).ecg
        except ValueError:
            continue
        one, six = ecg.lead("I"), ecg.lead("V6")
        if np.corrcoef(one, six)[0, 1] > 0.9 and not lead_errors(ecg):
            return ecg
    pytest.skip("no record with a clear lead I")


def test_reversed_arm_electrodes_are_suspected(normal: ECG) -> None:
    one, two, three, right, left, foot = (normal.lead(lead) for lead in LIMB)
    swapped = changed(dict(zip(LIMB, (-one, three, two, left, right, foot))), normal)
    assert residual(swapped.signal.astype(float)) < 0.15  # the laws cannot see it
    assert [e.kind for e in lead_errors(swapped)] == ["arms"]


def test_an_inverted_or_exchanged_chest_lead_is_suspected(normal: ECG) -> None:
    kinds = [e.kind for lead in CHEST[1:5] for e in lead_errors(changed({lead: -normal.lead(lead)}, normal))]
    assert "inverted" in kinds
    far = changed({"V1": normal.lead("V6"), "V6": normal.lead("V1")}, normal)
    assert ("exchanged", ("V1", "V6")) in [(e.kind, e.leads) for e in lead_errors(far)]
