"""A virtual trial written as PhysioNet would release it, every documented defect injected; and what was written.

    known = write_release("ecgrdvq", run_small("ecgrdvq", folder / "trial"), folder / "ecgrdvq")

Layouts are those of ecgrdvq, ecgdmmld and ecgcipa 1.0.0: tables, units, lead names, gains, clocks, RECORDS, hashes,
median beats with annotations. Intervals of the table are the truth's, to the millisecond, and so are the annotations.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import wfdb
import yaml

from ecg_gym.clinical_trial import Protocol, parse_protocol, run_trial
from ecg_gym.core import LEADS
from ecg_gym.datasets import read_record
from ecg_gym.waveform import resample

Row = dict[str, Any]
CIPA_GAIN = 0.26595744680851063  # counts per uV
P_ONSET = 200  # [ms] in the median beat
MEASURED = ("RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND")
SHAPES = ("TPEAKTPEAKP", "ERD_30", "LRD_30", "Twave_amplitude", "Twave_asymmetry", "Twave_flatness")
WHO = ("SEX", "AGE", "HGHT", "WGHT", "SYSBP", "DIABP", "RACE", "ETHNIC")
PROTOCOLS = {
    "ecgrdvq": """
      name: small, as ecgrdvq
      subjects: 3
      arms:
        ranolazine: {code: A, doses: [{drug: ranolazine, dose: 1500, unit: mg, route: PO, time_h: 0}]}
        dofetilide: {code: B, label: Dofetilide, doses: [{drug: dofetilide, dose: 500, unit: ug, route: PO, time_h: 0}]}
        placebo: {code: E, label: Placebo, doses: []}
      ecg: {baseline_h: [-0.5], hours: [1, 2.5], replicates: 3}
      concentration_units: {dofetilide: pg/mL}
    """,
    "ecgdmmld": """
      name: small, as ecgdmmld
      subjects: 3
      arms:
        dofetilide: {code: A, label: Dofetilide, doses: [{drug: dofetilide, dose: 250, unit: ug, route: PO, time_h: 4}]}
        mexiletine_dofetilide:
          code: C
          label: Mexiletine + Dofetilide
          doses:
            - {drug: mexiletine, dose: 400, unit: mg, route: PO, time_h: 0}
            - {drug: dofetilide, dose: 250, unit: ug, route: PO, time_h: 4}
        placebo: {code: E, label: Placebo, doses: []}
      ecg: {baseline_h: [-0.5], hours: [2, 6.5], replicates: 3}
      concentration_units: {dofetilide: pg/mL}
    """,
    "ecgcipa": """
      name: small, as ecgcipa
      subjects: 3
      design: parallel
      arms:
        verapamil:
          code: B
          label: Verapamil
          doses:
            - {drug: verapamil, dose: 120, unit: mg, route: PO, time_h: 0}
            - {drug: verapamil, dose: 120, unit: mg, route: PO, time_h: 24}
        dofetilide: {code: C, label: Dofetilide, doses: [{drug: dofetilide, dose: 250, unit: ug, route: PO, time_h: 0}]}
        placebo: {code: A, label: Placebo, doses: []}
      ecg: {baseline_h: [-1, -0.5], hours: [2, 6, 26, 30], replicates: 3}
      concentration_units: {dofetilide: pg/mL}
    """,
}
for text in PROTOCOLS.values():
    assert yaml.safe_load(text)


@dataclass
class Known:
    """What was written."""

    folder: Path
    rows: list[Row]  # by id, in the release's order: intervals, hours, people
    signals: dict[str, np.ndarray] = field(default_factory=dict)  # id -> (12, 10000) [mV], defects included
    defects: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # kind -> ids


def small_protocol(name: str) -> Protocol:
    """A trial of few people and hours in the manner of a release."""
    data = yaml.safe_load(PROTOCOLS[name])
    return parse_protocol({**data, "population": {"potassium": 4.2}}, f"{name}.yaml")


def run_small(name: str, folder: Path, n: int | None = None) -> list[Row]:
    """Its rows; records are in ``folder/records``."""
    return run_trial(small_protocol(name), n, seed=1, out=folder).rows


def write_release(name: str, trial: Path, rows: Sequence[Row], folder: Path, defects: bool = True) -> Known:
    """The folder of a release out of a virtual trial's rows and its records under ``trial/records``."""
    first = {"ecgrdvq": 1001, "ecgdmmld": 2001, "ecgcipa": 1001}[name]
    known = Known(folder, [_prepared(row, first, upper=name != "ecgrdvq") for row in rows])
    for row, made in zip(rows, known.rows):
        ecg = read_record(trial / "records" / str(row["RANDID"]) / row["EGREFID"]).ecg
        known.signals[made["EGREFID"]] = resample(ecg.signal[None], ecg.rate_hz, 1000.0)[0][:, :10_000].astype(float)
    if defects:
        _INJECT[name](known)
    for row in known.rows:
        _write_raw(name, known, row)
        _write_median(name, known, row)
    _TABLES[name](known)
    _index(known)
    return known


def _prepared(row: Row, first: int, upper: bool) -> Row:
    """A row with the truth's intervals as whole milliseconds that fit each other, and a release's number and id."""
    made = {name: row.get(name) for name in row if not name.startswith("truth_")}
    rr, pr, qt, qrs, tpte = (round(row[f"truth_{name}"]) for name in ("RR", "PR", "QT", "QRS", "TPEAKTEND"))
    made |= {"RR": rr, "PR": pr, "QT": qt, "QRS": qrs, "JTPEAK": qt - qrs - tpte, "TPEAKTEND": tpte}
    made |= {"Twave_amplitude": 500.5, "Twave_asymmetry": 0.1, "Twave_flatness": 0.4, "ERD_30": 40, "LRD_30": 25}
    made |= {"RANDID": row["RANDID"] - 1001 + first, "PERIOD": int(row["VISIT"].split("-")[1])}
    made |= {"SYSBP": 114.5, "DIABP": 64.25, "RACE": "WHITE", "ETHNIC": "NOT HISPANIC OR LATINO"}
    made["EGREFID"] = row["EGREFID"].upper() if upper else row["EGREFID"]
    return made


def _rdvq_defects(known: Known) -> None:
    wrapped, lost, unmarked, second = (known.rows[i] for i in (4, 7, 10, 12))
    known.defects["pr_wrap"].append(wrapped["EGREFID"])
    wrapped["table"] = {"PR": wrapped["PR"] - 2**32}
    wrapped["marks"] = {"p"}
    lost |= dict.fromkeys(("PR", "QT", "QRS", "JTPEAK", "TPEAKTEND"))
    known.signals[lost["EGREFID"]][LEADS.index("V4")] = -0.00625
    for kind in ("median_missing", "flat_lead", "pr_missing", "qrs_missing", "qt_missing"):
        known.defects[kind].append(lost["EGREFID"])
    unmarked |= dict.fromkeys(("QT", "TPEAKTEND"))
    known.defects["t_end_unmarked"].append(unmarked["EGREFID"])
    known.defects["qt_missing"].append(unmarked["EGREFID"])
    second["TPEAKTPEAKP"] = 20


def _dmmld_defects(known: Known) -> None:
    lost, corrupt = known.rows[5], known.rows[8]
    lost |= dict.fromkeys(("QRS", "JTPEAK"))
    known.defects["qrs_missing"].append(lost["EGREFID"])
    known.defects["median_header_corrupt"].append(corrupt["EGREFID"])
    known.defects["group_not_of_three"].append(known.rows[11]["EGREFID"])
    del known.rows[11]


def _cipa_defects(known: Known) -> None:
    no_p, no_t, artefact, disagreeing = (known.rows[i] for i in (3, 8, 10, 13))
    no_p["PR"] = None
    no_t |= dict.fromkeys(("QT", "JTPEAK", "TPEAKTEND"))
    known.defects["pr_missing"].append(no_p["EGREFID"])
    known.defects["qt_missing"].append(no_t["EGREFID"])
    known.signals[artefact["EGREFID"]][LEADS.index("V5"), 4000:4100] += 12.0
    known.defects["beyond_10_mv"].append(artefact["EGREFID"])
    known.defects["replicate_disagreement"].append(disagreeing["EGREFID"])
    disagreeing["other_replicate"] = True
    for row in (known.rows[16], known.rows[17]):  # a group of one
        known.defects["group_not_of_three"].append(row["EGREFID"])
    del known.rows[16:18]


def _write_raw(name: str, known: Known, row: Row) -> None:
    folder = known.folder / "raw" / str(row["RANDID"])
    folder.mkdir(parents=True, exist_ok=True)
    signal, record = known.signals[row["EGREFID"]], row["EGREFID"]
    if name == "ecgcipa":
        names, unit, scale, gains = list(LEADS), "uV", 1000.0, [CIPA_GAIN] * 12
    else:
        names, unit, scale = [lead.upper() for lead in LEADS], "mV", 1.0
        gains = [float(round(20_000 / max(np.abs(lead).max(), 0.5), 3)) for lead in signal]
    wfdb.wrsamp(
        record, fs=1000, units=[unit] * 12, sig_name=names, p_signal=scale * signal.T, fmt=["16"] * 12, adc_gain=gains,
        baseline=[0] * 12, write_dir=str(folder), comments=_comments(name, row, "raw"),
    )  # fmt: skip


def _comments(name: str, row: Row, kind: str) -> list[str]:
    if name != "ecgcipa":
        return []
    return [
        "STUDYID,USUBJID,EGREFID,EGDTC,WAVEFORM",
        f"SCR-004,{row['RANDID']},{row['EGREFID']},20170327065710.000,{kind}",
    ]


def _write_median(name: str, known: Known, row: Row) -> None:
    record = row["EGREFID"]
    if record in known.defects["median_missing"]:
        return
    folder = known.folder / "medians" / str(row["RANDID"])
    folder.mkdir(parents=True, exist_ok=True)
    length = 968 + 7 * (len(record) + row["RR"]) % 900 if name == "ecgrdvq" else 1200
    beat = known.signals[record][:, 2000 : 2000 + length]
    xyz = np.stack([beat[LEADS.index("V6")], beat[LEADS.index("aVF")], -beat[LEADS.index("V2")]])
    whole = np.concatenate([beat, np.sqrt((xyz**2).sum(axis=0))[None], xyz])
    frank = ["X", "Y", "Z"] if name == "ecgcipa" else ["vx", "vy", "vz"]
    scale = 1000.0 if name == "ecgcipa" else 1.0
    wfdb.wrsamp(
        record, fs=1000, units=["uV" if name == "ecgcipa" else "mV"] * 16, p_signal=scale * whole.T, fmt=["32"] * 16,
        sig_name=[*[lead.upper() for lead in LEADS], "VCGMAG", *frank], write_dir=str(folder),
        comments=_comments(name, row, "derived"),
    )  # fmt: skip
    if record in known.defects["median_header_corrupt"]:
        header = folder / f"{record}.hea"
        header.write_text(header.read_text().replace(f"{record}.dat", f"{record[:-2]}6200{record[-2:]}.dat", 1))
    _write_marks(name, folder, row)


def _write_marks(name: str, folder: Path, row: Row) -> None:
    """The annotation that the table was measured from; a mark is absent where the table has no interval."""
    truth = {key: row[key] or 0 for key in MEASURED}
    qrs = P_ONSET + (row["PR"] or 160)
    marks = [(P_ONSET, "(")] if row["PR"] is not None and "p" not in row.get("marks", ()) else []
    marks += [(qrs, "(")]
    marks += [(qrs + 40, "N")] if name == "ecgcipa" else []
    end = qrs + truth["QRS"]
    marks += [(end, ")")] if row["QRS"] is not None else []
    if row["JTPEAK"] is not None or row["QT"] is not None:
        t_peak = end + truth["JTPEAK"] if row["JTPEAK"] is not None else qrs + truth["QT"] - truth["TPEAKTEND"]
        marks += [(t_peak, "t")]
        marks += [(t_peak + row["TPEAKTPEAKP"], "t")] if row.get("TPEAKTPEAKP") else []
    marks += [(qrs + truth["QT"], ")")] if row["QT"] is not None else []
    samples, symbols = zip(*sorted(marks))
    wfdb.wrann(row["EGREFID"], "atr", np.array(samples), list(symbols), fs=1000, write_dir=str(folder))


def _write_csv(path: Path, names: Sequence[str], rows: Sequence[Row], blank: str = "NA") -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(names)
        writer.writerows([[blank if row.get(name) is None else row[name] for name in names] for row in rows])


def _rdvq_tables(known: Known) -> None:
    names = ["EGREFID", "RANDID", *WHO, "ARMCD", "VISIT", "EXTRT", "EXDOSE", "EXDOSU", "TPT", "BASELINE", "PCTEST",
             "PCSTRESN", "PCSTRESU", "RR", "PR", "QT", "QRS", "JTPEAK", "TPEAKTEND", *SHAPES]  # fmt: skip
    _write_csv(
        known.folder / "SCR-002.Clinical.Data.csv", names, [{**row, **row.get("table", {})} for row in known.rows]
    )


def _dmmld_tables(known: Known) -> None:
    codes = {
        "DOF": "conc_dofetilide_pg_mL",
        "LIDO": "",
        "MEXI": "conc_mexiletine_ng_mL",
        "MOXI": "",
        "MOXI.M2": "",
        "DILT": "",
    }
    names = ["EGREFID", "RANDID", *WHO, "ARMCD", "VISIT", "TRTA", *codes, "TPT", "BASELINE", "RR", "PR", "QT", "QRS",
             "JTPEAK", "TPEAKTEND", *SHAPES]  # fmt: skip
    rows = [
        {**row, "TRTA": row["EXTRT"], "ARMCD": row["ARMCD"].replace(",", "-"), "TPEAKTPEAKP": None,
         **{code: row.get(ours) for code, ours in codes.items()}}
        for row in known.rows
    ]  # fmt: skip
    _write_csv(known.folder / "SCR-003.Clinical.Data.csv", names, rows)


def _cipa_tables(known: Known) -> None:
    hours = {hour: 1 + i for i, hour in enumerate(sorted({row["TPT"] for row in known.rows}))}
    seen: dict[tuple, int] = defaultdict(int)
    long: list[Row] = []
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in known.rows:
        group = (row["RANDID"], row["PERIOD"], row["TPT"])
        seen[group] += 1
        row["REPLICATE"] = seen[group]
        groups[group].append(row)
        day = int(row["TPT"] // 24)
        base = {
            "STUDYID": "SCR-004", "USUBJID": row["RANDID"], "EGREFID": row["EGREFID"], "TRTA": row["EXTRT"],
            "TRTSEQA": row["EXTRT"], "APERIOD": row["PERIOD"], "ATPT": f"{row['TPT']:g} hrs",
            "ATPTN": hours[row["TPT"]], "NRRLT": row["TPT"] - 24 * max(day, 0), "ADY": day + 1,
            "AEGBLFL": "Y" if row["TPT"] < 0 else "", "DTYPE": "",
        }  # fmt: skip
        values = {"RR": row["RR"], "QRS": row["QRS"], "PR": row["PR"], "QT": row["QT"], "JTP": row["JTPEAK"],
                  "TPTE": row["TPEAKTEND"], "HR": 60_000 / row["RR"]}  # fmt: skip
        for code, value in values.items():
            moved = int(row.get("other_replicate", False) and code not in ("HR", "RR", "QRS"))
            if value is not None:
                long.append({**base, "PARAMCD": code, "AVAL": value, "EGREPNUM": row["REPLICATE"] + moved})
    averages = [
        {**base, "EGREFID": "", "DTYPE": "AVERAGE", "PARAMCD": "HR", "AVAL": 60.0, "EGREPNUM": "", "AEGBLFL": ""}
        for base in (
            {**next(row for row in long if row["EGREFID"] == group[0]["EGREFID"])} for group in groups.values()
        )
    ]
    known.defects["average_without_record"] = [""] * len(averages)
    names = list(long[0])
    _write_csv(known.folder / "adeg.csv", names, [*averages[:3], *long, *averages[3:]], blank="")
    _cipa_people(known, hours, groups)


def _cipa_people(known: Known, hours: dict[float, int], groups: dict[tuple, list[Row]]) -> None:
    levels: list[Row] = []
    for (subject, period, hour), rows in groups.items():
        for code, column, unit in (("DOF", "conc_dofetilide_pg_mL", "pg/mL"), ("VER", "conc_verapamil_ng_mL", "ng/mL")):
            if (value := rows[0].get(column)) is None:
                continue
            below = not known.defects["below_limit"]
            known.defects["below_limit"] += [""] if below else []
            levels.append({
                "USUBJID": subject, "APERIOD": period, "ATPTN": hours[hour], "PARAMCD": code, "PCSTRESU": unit,
                "AVAL": 0 if below else value, "LLOQFL": "Y" if below else "",
            })  # fmt: skip
            for row in rows:
                row[column] = None if below else value
    _write_csv(known.folder / "adpc.csv", list(levels[0]), levels, blank="")
    people = {row["RANDID"]: row for row in known.rows}
    subjects = [{"USUBJID": name, "AGE": row["AGE"], "SEX": row["SEX"], "RACE": f"  {row['RACE']}", "ARM": row["EXTRT"]}
                for name, row in people.items()]  # fmt: skip
    _write_csv(known.folder / "adsl.csv", list(subjects[0]), subjects)
    vitals = [{"USUBJID": name, "PARAMCD": code, "AVAL": row[column]} for name, row in people.items()
              for code, column in (("HEIGHT", "HGHT"), ("WEIGHT", "WGHT"), ("SYSBP", "SYSBP"))]  # fmt: skip
    _write_csv(known.folder / "addm.csv", list(vitals[0]), vitals)


def _index(known: Known) -> None:
    """RECORDS, ANNOTATORS and the hashes of everything."""
    folder = known.folder
    listed = [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.glob("*/*/*.hea"))]
    (folder / "RECORDS").write_text("\n".join(listed) + "\n")
    (folder / "ANNOTATORS").write_text("atr\tReference ECG Annotations\n")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(folder)}" for path in files]
    (folder / "SHA256SUMS.txt").write_text("\n".join(sums) + "\n")


_INJECT: dict[str, Callable[[Known], None]] = {
    "ecgrdvq": _rdvq_defects,
    "ecgdmmld": _dmmld_defects,
    "ecgcipa": _cipa_defects,
}
_TABLES: dict[str, Callable[[Known], None]] = {
    "ecgrdvq": _rdvq_tables,
    "ecgdmmld": _dmmld_tables,
    "ecgcipa": _cipa_tables,
}
