"""Records: a WFDB file becomes a 12-lead ECG in mV, or a sentence that says why not. The only file that knows wfdb."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, LEADS, Patient
from ecg_gym.waveform.beats import find_r_peaks
from ecg_gym.waveform.grid import SHORTEST_S, WINDOW_S, best_start

RATES_HZ = (100.0, 1000.0)
MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "microv": 1e-3, "nv": 1e-6}
SUFFIXES = (".hea", ".dat", ".mat")
FLAT_MV = 0.005  # a lead that moves less than this from peak to peak was not connected
BYTES_PER_SAMPLE = {"8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "24": 3.0, "32": 4.0, "212": 1.5}

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
    patient: Patient  # from the header's comments; unknown where they say nothing
    remarks: tuple[str, ...] = ()  # everything done to the record that its reader should know


def read_record(
    path: str | os.PathLike[str], allow_missing_leads: bool = False, start_s: float | None = None
) -> Record:
    """The 12 leads of a WFDB record by name, in mV, with what was done to them as remarks.

    ``path`` may carry ``.hea``, ``.dat``, ``.mat`` or nothing. Leads may come in any order, more than 12 channels are
    fine, spellings in use are understood (``avr``, ``AVR``, ``Lead II``, ``MDC_ECG_LEAD_V1``, ``C1``; ``-aVR`` is
    turned round). Limb leads that follow from two others are computed. Of a longer record the best 10 s are taken,
    or those from ``start_s`` [s] on.

    Raises FileNotFoundError (no header, no signal file) or ValueError (truncated signal, rate, unit, length, missing,
    duplicate, flat or NaN leads, no beats). With ``allow_missing_leads`` a missing, flat or NaN lead becomes zeros and
    is named in ``ecg.missing``.
    """
    header, base = record_header(path)
    _check_rate_and_length(header, base)
    channels, inverted, remarks = _channels(header, base)
    signals = _signals(header, base, channels)
    for lead in inverted:
        signals[lead] = -signals[lead]
        remarks.append(f"channel -{lead} was turned round to {lead}")
    signals, start_s, total_s, cut = _best_window(signals, float(header.fs), base, start_s)
    ecg, repairs = _complete(signals, float(header.fs), base, allow_missing_leads)
    if len(find_r_peaks(ecg)[0]) < 2:
        raise ValueError(
            f"record {base} shows fewer than two beats; expected a strip with QRS complexes in mV; "
            "look at the tracing, and check gain and unit in its header"
        )
    patient, doubts = _patient(header.comments or ())
    return Record(base.name, ecg, start_s, total_s, patient, (*remarks, *cut, *repairs, *doubts))


def record_header(path: str | os.PathLike[str]) -> tuple[Any, Path]:
    """The wfdb header and the path without suffix."""
    import wfdb

    given = Path(path).expanduser()
    base = given.with_suffix("") if given.suffix.lower() in SUFFIXES else given
    file = base.parent / (base.name + ".hea")
    try:
        there = file.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise FileNotFoundError(
            f"there is no {str(file)[:200]}; expected a WFDB header; give the path of a record (with or without .hea) "
            "that exists"
        )
    try:
        header = wfdb.rdheader(str(base), rd_segments=True)
    except Exception as error:
        raise ValueError(
            f"the header {file} cannot be read ({error}); expected a WFDB header; compare it with the header "
            "specification or write the record again with ecg_gym.datasets.write_record"
        ) from error
    if isinstance(header, wfdb.MultiRecord):
        raise ValueError(
            f"record {base} has several segments; expected a record of one piece; "
            "read it with wfdb.rdrecord(..., m2s=True) and write it with ecg_gym.datasets.write_record"
        )
    return header, base


def record_annotation(base: Path, extension: str) -> Any | None:
    """The wfdb annotation of a record, or None where the file of that extension holds none."""
    import wfdb

    try:
        return wfdb.rdann(str(base), extension)
    except Exception:  # wfdb raises whatever it stumbles over in a file of another kind
        return None


def _check_rate_and_length(header: Any, base: Path) -> None:
    if not header.fs or not RATES_HZ[0] <= header.fs <= RATES_HZ[1]:
        raise ValueError(
            f"record {base} is sampled at {header.fs} Hz; expected {RATES_HZ[0]:g} to {RATES_HZ[1]:g} Hz; "
            "resample it with ecg_gym.waveform.resample"
        )
    if header.sig_len is not None and header.sig_len / header.fs < SHORTEST_S:
        raise ValueError(
            f"record {base} lasts {header.sig_len / header.fs:.2f} s; expected at least {SHORTEST_S:g} s; "
            "record a longer strip"
        )


def lead_of(label: str) -> str | None:
    """The lead that a channel label means, as spelled in ``LEADS``; None for another channel (Frank X, MLII, PLETH)."""
    plain = re.sub(r"^(mdc[_ ]ecg[_ ])?(ecg[_ ]?)?(lead|derivation)?[_ ]?", "", label.strip().lower().lstrip("+"))
    return _SPELLINGS.get(re.sub(r"[ _]?(lead|ecg)$", "", plain).strip())


def _channels(header: Any, base: Path) -> tuple[dict[str, int], list[str], list[str]]:
    """Channel number of each lead found, the leads recorded upside down, and remarks."""
    result: dict[str, int] = {}
    inverted, others = [], []
    if header.sig_name and None in header.sig_name:
        raise ValueError(
            f"record {base} has {header.sig_name.count(None)} channels without a name; expected names like {LEADS}; "
            "add them at the ends of the signal lines of the header"
        )
    for number, label in enumerate(header.sig_name or ()):
        turned = label.strip().lower() == "-avr"
        lead = "aVR" if turned else lead_of(label)
        if lead is None:
            others.append(label)
        elif lead in result:
            raise ValueError(
                f"record {base} has lead {lead} twice (channels {header.sig_name[result[lead]]!r} and {label!r}); "
                f"expected each of {LEADS} once; rename or remove one channel in the header"
            )
        else:
            result[lead] = number
            inverted += [lead] if turned else []
    if not result:
        raise ValueError(
            f"record {base} has channels {tuple(header.sig_name or ())}, none of them a standard lead; expected names "
            f"like {LEADS}; rename the channels in the header"
        )
    return result, inverted, [f"channels not used: {', '.join(others)}"] if others else []


def _signals(header: Any, base: Path, channels: dict[str, int]) -> dict[str, np.ndarray]:
    """Each lead ``(T,)`` float64 [mV]."""
    import wfdb

    _check_units(header, base, channels)
    _check_files(header, base, channels)
    try:
        record = wfdb.rdrecord(str(base), channels=list(channels.values()))
        signal = record.p_signal
    except Exception as error:
        raise ValueError(
            f"the signal of record {base} cannot be read ({type(error).__name__}: {error}); expected what its header "
            "describes; copy the record again from its source"
        ) from error
    scale = {lead: MILLIVOLTS[_plain_unit(header.units[number])] for lead, number in channels.items()}
    return {lead: signal[:, i] * scale[lead] for i, lead in enumerate(channels)}


def _plain_unit(unit: str | None) -> str:
    return (unit or "mV").strip().lower().replace("volts", "v").replace("volt", "v").replace("milli", "m")


def _check_units(header: Any, base: Path, channels: dict[str, int]) -> None:
    for lead, number in channels.items():
        if _plain_unit(header.units[number]) not in MILLIVOLTS:
            raise ValueError(
                f"lead {lead} of record {base} is in {header.units[number]!r}; expected V, mV or uV; "
                "correct the unit in the header"
            )


def _check_files(header: Any, base: Path, channels: dict[str, int]) -> None:
    """Every signal file that is needed must be there and as long as the header says."""
    for name in sorted({header.file_name[number] for number in channels.values()}):
        file = base.parent / name
        if not file.is_file():
            raise FileNotFoundError(
                f"record {base} has a header but no signal file {file}; expected both side by side; "
                "copy the signal file there"
            )
        inside = [i for i, other in enumerate(header.file_name) if other == name]
        width = BYTES_PER_SAMPLE.get(header.fmt[inside[0]])
        if header.sig_len is None or width is None:  # compressed, or of unknown length: wfdb will notice
            continue
        frame = sum((header.samps_per_frame or [1] * header.n_sig)[i] for i in inside)
        targets = int(header.sig_len * frame * width) + ((header.byte_offset or [0])[inside[0]] or 0)
        if file.stat().st_size < targets:
            raise ValueError(
                f"the signal file {file} has {file.stat().st_size} bytes; expected {targets} from its header: it is "
                "truncated; copy it again from its source"
            )


Window = tuple[dict[str, np.ndarray], float, float, list[str]]


def _best_window(signals: dict[str, np.ndarray], rate_hz: float, base: Path, start_s: float | None = None) -> Window:
    """The best 10 s of every lead, where they begin [s], how long the file was [s], and a remark when it was cut."""
    total = len(next(iter(signals.values())))
    if total / rate_hz < SHORTEST_S:
        raise ValueError(
            f"record {base} lasts {total / rate_hz:.2f} s; expected at least {SHORTEST_S:g} s; record a longer strip"
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
    cut = [f"{how} of {total / rate_hz:.1f} s taken: {start / rate_hz:.2f} to {(start + length) / rate_hz:.2f} s"]
    return {k: s[start : start + length] for k, s in signals.items()}, start / rate_hz, total / rate_hz, cut


def _longest_finite(signals: dict[str, np.ndarray], length: int) -> tuple[int, int]:
    """The longest stretch in which every lead has numbers, or everything if none lasts ``length`` samples."""
    whole = np.logical_and.reduce([np.isfinite(signal) for signal in signals.values()])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(int))).reshape(-1, 2)
    first, last = max(edges, key=lambda edge: edge[1] - edge[0], default=(0, 0))
    return (int(first), int(last)) if last - first >= length else (0, len(whole))


def _complete(
    signals: dict[str, np.ndarray], rate_hz: float, base: Path, allow_missing_leads: bool
) -> tuple[ECG, list[str]]:
    """All 12 leads: recorded, computed from two limb leads, or (if allowed) zero and named as missing."""
    remarks: list[str] = []
    faulty = {lead: fault for lead, signal in signals.items() if (fault := _fault(signal))}
    if faulty and not allow_missing_leads:
        said = ", ".join(f"{lead} {fault}" for lead, fault in faulty.items())
        raise ValueError(
            f"record {base}: {said}; expected a signal in each lead; "
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
            f"record {base} lacks {', '.join(missing)}; expected {LEADS}; rename its channels, or pass "
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


def _patient(comments: Sequence[str]) -> tuple[Patient, list[str]]:
    """Age and sex out of header comments such as ``Age: 74``, ``<sex>: F``, ``sex: female``; None where unsaid."""
    said: dict[str, str] = {}
    for comment in comments:
        if match := re.match(r"\s*#?\s*<?(age|sex|gender)>?\s*[:=]\s*(\S+)", comment, re.IGNORECASE):
            said.setdefault(match[1].lower().replace("gender", "sex"), match[2].lower())
    sex = {"f": "F", "female": "F", "m": "M", "male": "M"}.get(said.get("sex", ""))
    try:
        age = float(said["age"])
    except (KeyError, ValueError):
        return Patient(sex=sex), []
    if age > 120:  # PTB-XL writes 300 for everybody above 89
        return Patient(age_years=90.0, sex=sex), [f"age {age:g} in the header stands for over 89; 90 years assumed"]
    return Patient(age_years=age, sex=sex) if age >= 0 else Patient(sex=sex), []


def write_record(
    path: str | os.PathLike[str], ecg: ECG, comments: Sequence[str] = (), patient: Patient | None = None
) -> Path:
    """The path of the header written: one strip ``(12, T)`` as WFDB, 16 bits at 1 uV; written aside, then renamed.

    The header comes last, so that a record either is there as a whole or not at all.
    """
    import wfdb

    base = Path(path)
    if base.suffix in SUFFIXES:
        base = base.with_suffix("")
    if ecg.signal.ndim != 2:
        raise ValueError(
            f"signal has shape {ecg.signal.shape}; expected one strip (12, T); write the rows of a batch one by one"
        )
    if not re.fullmatch(r"[\w\-]+", base.name):
        raise ValueError(
            f"record name is {base.name!r}; expected letters, digits, '_' and '-' (a WFDB rule); rename the record"
        )
    notes = [f"Age: {patient.age_years:g}"] if patient and patient.age_years is not None else []
    notes += [f"Sex: {patient.sex}"] if patient and patient.sex else []
    base.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base.parent, prefix=".writing-") as aside:
        wfdb.wrsamp(
            base.name, fs=ecg.rate_hz, units=["mV"] * 12, sig_name=list(LEADS), p_signal=ecg.signal.T.astype(float),
            fmt=["16"] * 12, adc_gain=[1000.0] * 12, baseline=[0] * 12, comments=[*notes, *comments], write_dir=aside,
        )  # fmt: skip
        for suffix in (".dat", ".hea"):
            os.replace(Path(aside) / f"{base.name}{suffix}", base.parent / f"{base.name}{suffix}")
    return base.parent / f"{base.name}.hea"
