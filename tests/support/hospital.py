"""A small hospital in the layout of MIMIC-IV 3.1 and MIMIC-IV-ECG 1.0: virtual ECGs, shifted dates, eMAR, sentinels.

Records are 500 Hz, mV, 5000 samples, and name aVF before aVL. Each person below is one case of the episode rule.
"""

from __future__ import annotations

import csv
import gzip
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from ecg_gym.core import LEADS
from ecg_gym.pharmacology import exposure, modulate
from ecg_gym.virtual_patient import draw_heart, synthesise

ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
DAY0 = datetime(2180, 5, 6, 8, 0)  # shifted far into the future
HEADERS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime",
    "hosp/emar": "subject_id,hadm_id,emar_id,emar_seq,charttime,medication,event_txt",
    "hosp/emar_detail": "subject_id,emar_id,emar_seq,dose_given,dose_given_unit,route",
    "hosp/prescriptions": "subject_id,hadm_id,starttime,stoptime,drug_type,drug,dose_val_rx,dose_unit_rx,route",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,itemid,charttime,value,valuenum,valueuom",
    "hosp/omr": "subject_id,chartdate,seq_num,result_name,result_value",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "icu/inputevents": "subject_id,hadm_id,stay_id,starttime,endtime,itemid,amount,amountuom,rate,rateuom,"
    "statusdescription",
    "icu/procedureevents": "subject_id,hadm_id,stay_id,starttime,endtime,itemid,value",
    "record_list": "subject_id,study_id,file_name,ecg_time,path",
    "machine_measurements": "subject_id,study_id,report_0,report_1,rr_interval,p_onset,p_end,qrs_onset,qrs_end,t_end",
}


class VirtualHospital:
    """Rows that are collected, then written by ``write``."""

    def __init__(self, folder: Path) -> None:
        self.clinical, self.ecg = folder / "mimiciv", folder / "mimic-iv-ecg"
        self.tables: dict[str, list[list[Any]]] = {name: [] for name in HEADERS}
        self.signals: dict[str, np.ndarray] = {}  # path -> (12, 5000) [mV], leads as in LEADS
        self._study = 40_000_000
        self._hearts: dict[int, Any] = {}

    def person(self, subject: int, female: bool = True, age: int = 60) -> int:
        """A patient and an admission of that number plus 20,000,000; returns it."""
        self.tables["hosp/patients"].append(
            [subject, "F" if female else "M", age - 2, DAY0.year - 2, "2011 - 2013", ""]
        )
        self.tables["hosp/admissions"].append([subject, 20_000_000 + subject, time(-48), time(240), ""])
        return 20_000_000 + subject

    def record(self, subject: int, hours: float, report: str = "Sinus rhythm", rr: int = 857, lost: str = "") -> str:
        """An ECG at ``hours`` after the hospital's zero; returns its path."""
        self._study += 1
        study, rng = self._study, np.random.default_rng(self._study)
        heart = self._hearts.setdefault(subject, draw_heart(np.random.default_rng(subject), healthy=True))
        signal, _ = synthesise(heart, modulate(exposure((), heart.patient, 0.0), heart.patient), rng, 500.0, 10.0)
        path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
        self.tables["record_list"].append([subject, study, study, time(hours), path])
        self.tables["machine_measurements"].append([subject, study, report, "", rr, 29999, 29999, 200, 290, 600])
        signal = np.asarray(signal, dtype=float)
        if lost:
            signal[LEADS.index(lost)] = 0.0
        self.signals[path] = signal
        return path

    def dose(
        self, subject: int, hours: float, name: str, amount: object, unit: str, route: str, event: str = "Administered"
    ) -> None:
        """A row of eMAR and its detail."""
        emar = f"{subject}-{len(self.tables['hosp/emar'])}"
        self.tables["hosp/emar"].append([subject, 20_000_000 + subject, emar, 1, time(hours), name, event])
        self.tables["hosp/emar_detail"].append([subject, emar, 1, "", "", ""])  # the parent row holds no dose
        self.tables["hosp/emar_detail"].append([subject, emar, 1, amount, unit, route])

    def lab(self, subject: int, hours: float, item: int, value: float) -> None:
        """A laboratory value."""
        n = len(self.tables["hosp/labevents"])
        self.tables["hosp/labevents"].append([n, subject, "", item, time(hours), value, value, ""])

    def write(self) -> None:
        """All tables (clinical ones gzipped) and records."""
        for name, rows in self.tables.items():
            packed = "/" in name
            path = (self.clinical if packed else self.ecg) / f"{name}.csv{'.gz' if packed else ''}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(path, "wt", newline="") if packed else open(path, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(HEADERS[name].split(","))
                writer.writerows(rows)
        for path, signal in self.signals.items():
            folder = (self.ecg / path).parent
            folder.mkdir(parents=True, exist_ok=True)
            columns = np.stack([signal[LEADS.index(lead)] for lead in ORDER], axis=1)
            wfdb.wrsamp(Path(path).name, fs=500, units=["mV"] * 12, sig_name=list(ORDER), p_signal=columns,
                        fmt=["16"] * 12, adc_gain=[200.0] * 12, baseline=[0] * 12, write_dir=str(folder))  # fmt: skip


def time(hours: float) -> str:
    """MIMIC's spelling of an hour after the hospital's zero."""
    return (DAY0 + timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S")
