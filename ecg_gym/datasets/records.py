"""Records: a file of any kind that is known here becomes a 12-lead ECG in mV, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ecg_gym.datasets.channels import Record, Source, assemble
from ecg_gym.datasets.wfdb_files import read_wfdb, write_record

__all__ = ["Record", "read_record", "write_record"]
TABLES = (".csv", ".tsv", ".txt", ".npy", ".npz")
CONVERT = {
    ".scp": "SCP-ECG, which no maintained Python library reads; expected WFDB, EDF, DICOM, HL7 aECG, CSV or NumPy; "
    "convert it to EDF with BioSig (biosig.sourceforge.net): save2gdf -f=EDF IN.scp OUT.edf",
    ".ecg": "a vendor's format or SCP-ECG; expected WFDB, EDF, DICOM, HL7 aECG, CSV or NumPy; "
    "export it from the device as one of these, or convert SCP-ECG with BioSig: save2gdf -f=EDF IN.ecg OUT.edf",
    ".pdf": "a picture of an ECG; expected its samples as WFDB, EDF, DICOM, HL7 aECG, CSV or NumPy; "
    "export them from the device",
}


def read_record(
    path: str | os.PathLike[str],
    allow_missing_leads: bool = False,
    start_s: float | None = None,
    *,
    fix_leads: bool = False,
    rate_hz: float | None = None,
    leads: Sequence[str] | None = None,
) -> Record:
    """The 12 leads of a record by name, in mV, with what was done to them as remarks.

    The suffix says the kind of file: WFDB (``.hea``, ``.dat``, ``.mat`` or none), EDF and BDF (``.edf``, ``.bdf``),
    DICOM (``.dcm``), HL7 aECG (``.xml``), tables (``.csv``, ``.tsv``, ``.npy``, ``.npz``; ``rate_hz`` [Hz] and, for
    columns without names, ``leads``). Leads may come in any order, more than 12 channels are fine, spellings in use are
    understood (``avr``, ``AVR``, ``Lead II``, ``MDC_ECG_LEAD_V1``, ``C1``; ``-aVR`` is turned round). Limb leads that
    follow from two others are computed. Of a longer record the best 10 s are taken, or those from ``start_s`` [s] on.
    Leads that contradict each other are said in a remark; ``fix_leads`` puts right those with one explanation.

    Raises FileNotFoundError (no such file) or ValueError (truncated or damaged signal, rate, unit, gain, amplitude,
    length, missing, duplicate, flat or NaN leads, no beats), ImportError where an extra is needed. With
    ``allow_missing_leads`` a missing, flat or NaN lead becomes zeros and is named in ``ecg.missing``.
    """
    return assemble(_source(Path(path).expanduser(), rate_hz, leads), allow_missing_leads, start_s, fix_leads)


def _source(path: Path, rate_hz: float | None, leads: Sequence[str] | None) -> Source:
    """What the reader for this kind of file finds in it."""
    suffix = path.suffix.lower()
    if suffix in TABLES and not path.with_suffix(".hea").is_file():
        from ecg_gym.datasets.tables import read_table_file

        return read_table_file(_there(path), rate_hz, leads)
    if suffix in (".edf", ".bdf"):
        from ecg_gym.datasets.edf import read_edf

        return read_edf(_there(path))
    if suffix in (".dcm", ".dicom"):
        from ecg_gym.datasets.dicom import read_dicom

        return read_dicom(_there(path))
    if suffix == ".xml":
        from ecg_gym.datasets.aecg import read_aecg

        return read_aecg(_there(path))
    if suffix in CONVERT:
        raise ValueError(f"{path} is {CONVERT[suffix]}")
    return read_wfdb(path)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {str(path)[:200]}; expected a file with an ECG; check the path")
    return path
