"""WFDB: header and signal files become a ``Source``, a strip becomes a record. The only file that knows wfdb."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, LEADS, Patient
from ecg_gym.datasets.channels import Channel, Source, leads_among, words_about

SUFFIXES = (".hea", ".dat", ".mat")
BYTES_PER_SAMPLE = {"8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "24": 3.0, "32": 4.0, "212": 1.5}
_GAIN = re.compile(r"^(?P<gain>[-+]?[\d.]+(?:[eE][-+]?\d+)?)?(?:\((?P<baseline>-?\d+)\))?(?:/(?P<unit>\S+))?$")


def read_wfdb(path: str | os.PathLike[str]) -> Source:
    """The standard leads of a WFDB record, each at its own rate.

    ``path`` may carry ``.hea``, ``.dat``, ``.mat`` or nothing. Frames with several samples of a signal are unfolded,
    skewed signals shifted, and checksums compared. Raises FileNotFoundError (no header, no signal file) or ValueError
    (header that cannot be read, truncated or damaged signal, no gain).
    """
    header, base = record_header(path)
    lines, rate_is_there = _raw_lines(base)
    leads, _, _ = leads_among(header.sig_name or (), base)
    numbers = sorted(leads.values())
    _check_gains(lines, {number: lead for lead, number in leads.items()}, base)
    _check_files(header, base, numbers)
    signals = _signals(header, base, numbers)
    frames, labels = header.samps_per_frame or [1] * header.n_sig, header.sig_name
    channels = tuple(
        Channel(labels[n], signals[n], lines[n][1], float(header.fs) * frames[n]) if n in signals
        else Channel(labels[n], np.zeros(0), None, float(header.fs))
        for n in range(header.n_sig)
    )  # fmt: skip
    age, sex = words_about(header.comments or ())
    remarks = () if rate_is_there else (f"the header has no sampling rate; {header.fs:g} Hz taken, WFDB's default",)
    return Source(base.name, str(base), channels, age, sex, remarks)


def record_header(path: str | os.PathLike[str]) -> tuple[Any, Path]:
    """The wfdb header and the path without suffix."""
    import wfdb

    place = Path(path).expanduser()
    base = place.with_suffix("") if place.suffix.lower() in SUFFIXES else place
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


def _raw_lines(base: Path) -> tuple[list[tuple[float | None, str | None]], bool]:
    """Gain and unit of each signal line as they are written, and whether the header has a sampling rate.

    wfdb drops bytes that are not ASCII and fills in what is left out, so the header is read once more here.
    """
    content = (base.parent / f"{base.name}.hea").read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    signals = []
    for fields in lines[1:]:
        match = _GAIN.match(fields[2]) if len(fields) > 2 else None
        gain = float(match["gain"]) if match and match["gain"] else None
        signals.append((gain, match["unit"] if match else None))
    return signals, len(lines[0]) > 2


def _check_gains(lines: Sequence[tuple[float | None, str | None]], leads: dict[int, str], base: Path) -> None:
    """Every lead must be calibrated: WFDB's word for an unknown gain is to leave it out, or 0."""
    for number, lead in leads.items():
        gain = lines[number][0] if number < len(lines) else None
        if not gain:
            raise ValueError(
                f"lead {lead} of record {base} has {'no gain' if gain is None else 'gain 0'}, so it is "
                "not calibrated; expected a gain in units per mV; check gain and unit in its header"
            )


def _signals(header: Any, base: Path, numbers: Sequence[int]) -> dict[int, np.ndarray]:
    """Each chosen channel ``(T,)`` float64 in its own unit, unskewed; raises ValueError where a checksum differs."""
    import wfdb

    try:
        record = wfdb.rdrecord(str(base), channels=list(numbers), physical=False, smooth_frames=False, ignore_skew=True)
        digital, physical = record.e_d_signal, record.dac(expanded=True)
    except Exception as error:
        raise ValueError(
            f"the signal of record {base} cannot be read ({type(error).__name__}: {error}); expected what its header "
            "describes; copy the record again from its source"
        ) from error
    signals = {}
    for place, number in enumerate(numbers):
        written = (header.checksum or [None] * header.n_sig)[number]
        if written is not None and (int(digital[place].astype(np.int64).sum()) - written) % 65536:
            raise ValueError(
                f"the signal {header.sig_name[number]} of record {base} does not add up to the checksum of its header; "
                "expected the samples that were written: the file is damaged; copy it again from its source"
            )
        skew = (header.skew or [0] * header.n_sig)[number] or 0
        frame = (header.samps_per_frame or [1] * header.n_sig)[number]
        signals[number] = np.asarray(physical[place], dtype=float)[skew * frame :]
    return signals


def _check_files(header: Any, base: Path, numbers: Sequence[int]) -> None:
    """Every signal file that is needed must be there and as long as the header says."""
    for name in sorted({header.file_name[number] for number in numbers}):
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
        expected = int(header.sig_len * frame * width) + ((header.byte_offset or [0])[inside[0]] or 0)
        if file.stat().st_size < expected:
            raise ValueError(
                f"the signal file {file} has {file.stat().st_size} bytes; expected {expected} from its header: it is "
                "truncated; copy it again from its source"
            )


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
