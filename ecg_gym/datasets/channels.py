"""Channels: named signals from any file become a 12-lead ECG in mV, or a sentence that says why not.

Every reader (WFDB, EDF, DICOM, aECG, tables) hands over a ``Source``; what is checked and repaired is the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecg_gym.core import ECG, LEADS, Patient
from ecg_gym.plausibility import assumed_over_89, number_of, sex_of, stands_for_over_89
from ecg_gym.waveform.amplitude import check_amplitude
from ecg_gym.waveform.beats import find_r_peaks
from ecg_gym.waveform.filters import resample
from ecg_gym.waveform.grid import SHORTEST_S, WINDOW_S, best_start
from ecg_gym.waveform.lead_errors import lead_errors

RATES_HZ = (100.0, 1000.0)
MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "microv": 1e-3, "nv": 1e-6}
FLAT_MV = 0.005  # a lead that moves less than this from peak to peak was not connected

_SPELLINGS = {lead.lower(): lead for lead in LEADS}
_SPELLINGS |= {f"d{roman}": roman.upper() for roman in ("i", "ii", "iii")}  # derivation I, II, III
_SPELLINGS |= {f"{prefix}{n}": roman for prefix in ("l", "d") for n, roman in ((1, "I"), (2, "II"), (3, "III"))}
_SPELLINGS |= {f"c{n}": f"V{n}" for n in range(1, 7)}  # IEC names of the chest electrodes
_DERIVED = {  # what two limb leads say about the others: Einthoven 1908, Goldberger 1942
    "I": lambda s: s["II"] - s["III"],
    "II": lambda s: s["I"] + s["III"],
    "III": lambda s: s["II"] - s["I"],
    "aVR": lambda s: -(s["I"] + s["II"]) / 2,
    "aVL": lambda s: s["I"] - s["II"] / 2,
    "aVF": lambda s: s["II"] - s["I"] / 2,
}


@dataclass(frozen=True)
class Record:
    """A record as it was read: at most its best 10 s, at its own rate."""

    name: str
    ecg: ECG  # (12, T) [mV] at the record's own rate, at most 10 s
    start_s: float  # where in the file the strip begins [s]
    total_s: float  # length of the file [s]
    patient: Patient  # from the file; unknown where it says nothing
    remarks: tuple[str, ...] = ()  # everything done to the record that its reader should know


@dataclass(frozen=True)
class Channel:
    """One signal of a file."""

    label: str  # as the file names it
    signal: np.ndarray  # (T,) in `unit`
    unit: str | None  # as the file writes it; None is mV
    rate_hz: float  # [Hz]


@dataclass(frozen=True)
class Source:
    """What a reader result in a file, before anything is checked."""

    name: str  # of the record, for messages and results
    path: str  # of the file, for messages
    channels: tuple[Channel, ...]
    age: str = ""  # in the file's words
    sex: str = ""
    remarks: tuple[str, ...] = ()  # of the reader


def assemble(
    source: Source, allow_missing_leads: bool = False, start_s: float | None = None, fix_leads: bool = False
) -> Record:
    """The 12 leads of a source by name, in mV, with what was done to them as remarks.

    Limb leads that follow from two others are computed, channels of several rates brought to the highest, and of a long
    record the best 10 s taken (or those from ``start_s`` [s] on). Leads that contradict each other are said; with
    ``fix_leads`` those with one explanation are put right.

    Raises ValueError for a rate, unit, length, amplitude, missing, duplicate, flat or NaN lead that cannot be used, and
    for a strip without beats. With ``allow_missing_leads`` a missing, flat or NaN lead becomes zeros, named in
    ``ecg.missing``.
    """
    leads, inverted, remarks = leads_among([channel.label for channel in source.channels], source.path)
    signals = {lead: _in_millivolts(lead, source.channels[number], source.path) for lead, number in leads.items()}
    rates = {lead: source.channels[number].rate_hz for lead, number in leads.items()}
    signals, rate_hz, resampled = _at_one_rate(signals, rates, source.path)
    for lead in inverted:
        signals[lead] = -signals[lead]
        remarks.append(f"channel -{lead} was turned round to {lead}")
    signals, start_s, total_s, crop = _best_window(signals, rate_hz, source.path, start_s)
    ecg, repairs = _complete(signals, rate_hz, source.path, allow_missing_leads)
    check_amplitude(ecg.signal, ecg.rate_hz, f"record {source.path}")
    ecg, doubts = _consistent(ecg, fix_leads)
    if len(find_r_peaks(ecg)[0]) < 2:
        raise ValueError(
            f"record {source.path} shows fewer than two beats; expected a strip with QRS complexes in mV; "
            "look at the tracing, and check gain and unit in its header"
        )
    patient, unclear = patient_of(source.age, source.sex)
    notes = (*source.remarks, *remarks, *resampled, *crop, *repairs, *doubts, *unclear)
    return Record(source.name, ecg, start_s, total_s, patient, notes)


def lead_of(label: str) -> str | None:
    """The lead that a channel label means, as spelled in ``LEADS``; None for another channel (Frank X, MLII, PLETH)."""
    plain = re.sub(r"^(mdc[_ ]ecg[_ ])?(e[ck]g[_ -]?)?(lead|derivation)?[_ ]?", "", label.strip().lower().lstrip("+"))
    return _SPELLINGS.get(re.sub(r"[ _]?(lead|ecg)$", "", plain).strip())


def leads_among(labels: Sequence[str | None], path: object) -> tuple[dict[str, int], list[str], list[str]]:
    """Channel number of each lead, the leads recorded upside down, and remarks; raises ValueError for a lead twice."""
    result: dict[str, int] = {}
    inverted, others = [], []
    names = [label for label in labels if label is not None]
    if len(names) < len(labels):
        raise ValueError(
            f"record {path} has {len(labels) - len(names)} channels without a name; expected names like {LEADS}; "
            "add them at the ends of the signal lines of the header"
        )
    for number, label in enumerate(names):
        turned = label.strip().lower() == "-avr"
        lead = "aVR" if turned else lead_of(label)
        if lead is None:
            others.append(label)
        elif lead in result:
            raise ValueError(
                f"record {path} has lead {lead} twice (channels {names[result[lead]]!r} and {label!r}); "
                f"expected each of {LEADS} once; rename or remove one channel in the header"
            )
        else:
            result[lead] = number
            inverted += [lead] if turned else []
    if not result:
        raise ValueError(
            f"record {path} has channels {tuple(names)}, none of them a standard lead; expected names "
            f"like {LEADS}; rename the channels in the header"
        )
    return result, inverted, [f"channels not used: {', '.join(others)}"] if others else []


def _in_millivolts(lead: str, channel: Channel, path: object) -> np.ndarray:
    """A channel ``(T,)`` float64 [mV]."""
    unit = plain_unit(channel.unit)
    if unit not in MILLIVOLTS:
        raise ValueError(
            f"lead {lead} of record {path} is in {channel.unit!r}; expected V, mV or uV; correct the unit in the header"
        )
    return np.asarray(channel.signal, dtype=float) * MILLIVOLTS[unit]


def plain_unit(unit: str | None) -> str:
    """A unit as a key of ``MILLIVOLTS``; a micro sign is a u in whatever encoding it was written."""
    plain = (unit or "mV").strip().lower().replace("volts", "v").replace("volt", "v").replace("milli", "m")
    return re.sub(r"^[^\x00-\x7f]+(?=v$)", "u", plain)


def _at_one_rate(
    signals: dict[str, np.ndarray], rates: dict[str, float], path: object
) -> tuple[dict[str, np.ndarray], float, list[str]]:
    """The leads at the highest of their rates and of one length, the rate [Hz], and a remark where they differed."""
    rate_hz = max(rates.values())
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise ValueError(
            f"record {path} is sampled at {rate_hz:g} Hz; expected {RATES_HZ[0]:g} to {RATES_HZ[1]:g} Hz; "
            "resample it with ecg_gym.waveform.resample"
        )
    slower = [lead for lead, rate in rates.items() if rate != rate_hz]
    remarks = [f"resampled to {rate_hz:g} Hz: {', '.join(slower)}"] if slower else []
    signals = {lead: resample(x[None], rates[lead], rate_hz)[0] if lead in slower else x for lead, x in signals.items()}
    length = min(map(len, signals.values()))
    return {lead: x[:length] for lead, x in signals.items()}, rate_hz, remarks


def _consistent(ecg: ECG, fix_leads: bool) -> tuple[ECG, list[str]]:
    """The strip with its leads put right where that is asked for and unambiguous, and what was said of them."""
    remarks = []
    for error in lead_errors(ecg):
        if error.fixable and fix_leads:
            ecg = error.repaired(ecg)
            remarks.append(f"{error.sentence}; put right")
        else:
            remarks.append(error.sentence + ("; --fix-leads puts it right" if error.fixable else ""))
    return ecg, remarks


Window = tuple[dict[str, np.ndarray], float, float, list[str]]


def _best_window(signals: dict[str, np.ndarray], rate_hz: float, path: object, start_s: float | None = None) -> Window:
    """The best 10 s of every lead, where they begin [s], how long the file was [s], and a remark when it was cut."""
    total = len(next(iter(signals.values())))
    if total / rate_hz < SHORTEST_S:
        raise ValueError(
            f"record {path} lasts {total / rate_hz:.2f} s; expected at least {SHORTEST_S:g} s; record a longer strip"
        )
    length = round(WINDOW_S * rate_hz)
    if total <= length:
        return signals, 0.0, total / rate_hz, []
    if start_s is None:
        filled = {lead: np.nan_to_num(signal) for lead, signal in signals.items()}
        first, last = _longest_finite(signals, length)
        whole = np.stack([filled.get(lead, np.zeros(total))[first:last] for lead in LEADS])
        start = first + round(best_start(ECG(whole, rate_hz)) * rate_hz)
    else:
        start = max(0, round(start_s * rate_hz))
    start = min(start, total - length)
    how = "best 10 s" if start_s is None else "10 s"
    crop = [f"{how} of {total / rate_hz:.1f} s taken: {start / rate_hz:.2f} to {(start + length) / rate_hz:.2f} s"]
    return {k: s[start : start + length] for k, s in signals.items()}, start / rate_hz, total / rate_hz, crop


def _longest_finite(signals: dict[str, np.ndarray], length: int) -> tuple[int, int]:
    """The longest stretch in which every lead has numbers, or everything if none lasts ``length`` samples."""
    whole = np.logical_and.reduce([np.isfinite(signal) for signal in signals.values()])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(int))).reshape(-1, 2)
    first, last = max(edges, key=lambda edge: edge[1] - edge[0], default=(0, 0))
    return (int(first), int(last)) if last - first >= length else (0, len(whole))


def _complete(
    signals: dict[str, np.ndarray], rate_hz: float, path: object, allow_missing_leads: bool
) -> tuple[ECG, list[str]]:
    """All 12 leads: recorded, computed from two limb leads, or (if allowed) zero and named as missing."""
    remarks: list[str] = []
    faulty = {lead: fault for lead, signal in signals.items() if (fault := _fault(signal))}
    if faulty and not allow_missing_leads:
        faults = ", ".join(f"{lead} {fault}" for lead, fault in faulty.items())
        raise ValueError(
            f"record {path}: {faults}; expected a signal in each lead; "
            "pass allow_missing_leads=True (--allow-missing-leads) to go on without them"
        )
    remarks += [f"lead {lead} {fault} and was not used" for lead, fault in faulty.items()]
    usable = {lead: signal for lead, signal in signals.items() if lead not in faulty}
    usable, computed = _with_derived(usable)
    if computed:
        remarks.append(f"computed from two limb leads: {', '.join(computed)}")
    missing = tuple(lead for lead in LEADS if lead not in usable)
    if missing and not allow_missing_leads:
        raise ValueError(
            f"record {path} lacks {', '.join(missing)}; expected {LEADS}; rename its channels, or pass "
            "allow_missing_leads=True (--allow-missing-leads) to go on without them"
        )
    if missing:
        remarks.append(f"missing, set to zero: {', '.join(missing)}")
    length = len(next(iter(signals.values())))
    whole = ECG.from_leads({lead: usable.get(lead, np.zeros(length)) for lead in LEADS}, rate_hz)
    return replace(whole, missing=missing), remarks


def _fault(signal: np.ndarray) -> str:
    """What is wrong with one lead ``(T,)`` [mV], or nothing."""
    if lost := int((~np.isfinite(signal)).sum()):
        return f"has {lost} samples without a number"
    return "is flat" if np.ptp(signal) < FLAT_MV else ""


def _with_derived(signals: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The leads and those limb leads that follow from two of I, II, III."""
    whole = dict(signals)
    if len({"I", "II", "III"} & set(whole)) < 2:
        return whole, []
    computed = [lead for lead in _DERIVED if lead not in whole]
    for lead in computed:
        whole[lead] = _DERIVED[lead](whole)
    return whole, computed


def patient_of(age: str, sex: str) -> tuple[Patient, list[str]]:
    """Age and sex in a file's words; what is not understood is unknown, and said."""
    remarks, years, letter = [], None, None
    try:
        letter = sex_of(sex)
    except ValueError:
        remarks.append(f"sex {sex!r} in the header is not understood and taken as unknown")
    try:
        number = float(age) if age else None
    except ValueError:
        number = None
    if number is not None and stands_for_over_89(number):
        years = assumed_over_89()
        remarks.append(f"age {number:g} in the header stands for over 89; {years:g} years assumed")
    elif age:
        try:
            years = number_of("age_years", age)
        except ValueError as error:
            remarks.append(f"age {age!r} in the header is taken as unknown ({str(error).split(';')[1].strip()})")
    return Patient(age_years=years, sex=letter), remarks


def words_about(comments: Sequence[str]) -> tuple[str, str]:
    """Age and sex in header comments such as ``Age: 74``, ``<age>: 65 <sex>: F``, ``sex: female``; "" where unsaid."""
    result: dict[str, str] = {}
    for comment in comments:
        for match in re.finditer(r"<?\b(age|sex|gender)\b>?\s*[:=]\s*([^\s<,;]+)", comment, re.IGNORECASE):
            result.setdefault(match[1].lower().replace("gender", "sex"), match[2])
    return result.get("age", ""), result.get("sex", "")
