"""One strip in every kind of file is read back as the same strip, and what is wrong with a file is said."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from analytic_ecg import analytic

from ecg_gym.core import ECG, LEADS
from ecg_gym.datasets import read_record

STRIP = analytic()


def same(path: Path, tolerance: float = 2e-3, **how) -> None:
    read = read_record(path, **how).ecg
    assert read.rate_hz == STRIP.rate_hz
    np.testing.assert_allclose(read.signal, STRIP.signal, atol=tolerance)


def csv(path: Path, header: str = ",".join(LEADS), scale: float = 1.0, mark: str = ",", clock: bool = False) -> Path:
    rows = STRIP.signal.T * scale
    lines = [header] if header else []
    for i, row in enumerate(rows):
        numbers = [f"{x:.4f}" for x in row]
        numbers = [f"{i / STRIP.rate_hz:.4f}", *numbers] if clock else numbers
        line = mark.join(numbers)
        lines.append(line.replace(".", ",") if mark == ";" else line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_csv_with_names_and_a_rate(tmp_path: Path) -> None:
    same(csv(tmp_path / "a.csv"), rate_hz=500)
    same(csv(tmp_path / "b.csv", ";".join(LEADS), mark=";"), rate_hz=500)
    same(csv(tmp_path / "c.csv", ",".join(f"{lead} (uV)" for lead in LEADS), scale=1000), rate_hz=500)
    same(csv(tmp_path / "d.csv", ",".join(("time [s]", *LEADS)), clock=True))
    same(csv(tmp_path / "e.csv", ""), rate_hz=500, leads=LEADS)
    same(csv(tmp_path / "f.tsv", "\t".join(LEADS), mark="\t"), rate_hz=500)


def test_numpy_with_names_and_a_rate(tmp_path: Path) -> None:
    named = dict(zip(LEADS, STRIP.signal))
    np.savez(tmp_path / "a.npz", rate_hz=500, **named)
    same(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", STRIP.signal)
    same(tmp_path / "b.npy", rate_hz=500, leads=LEADS)
    np.save(tmp_path / "c.npy", STRIP.signal.T)
    same(tmp_path / "c.npy", rate_hz=500, leads=LEADS)
    fields = np.rec.fromarrays(list(STRIP.signal), names=",".join(LEADS))
    np.save(tmp_path / "d.npy", np.asarray(fields))
    same(tmp_path / "d.npy", rate_hz=500)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({}, "no sampling rate"),
        ({"rate_hz": 500}, "without names"),
        ({"rate_hz": 500, "leads": LEADS[:3]}, "without names"),
    ],
)
def test_tables_that_say_too_little_are_refused(tmp_path: Path, how: dict, why: str) -> None:
    np.save(tmp_path / "a.npy", STRIP.signal)
    if "rate_hz" not in how:
        csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=why) as caught:
        read_record(tmp_path / ("a.npy" if "rate_hz" in how else "a.csv"), **how)
    assert str(caught.value).count(";") >= 2


def test_words_in_a_table_and_pickles_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("0.0", "zero", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="no number"):
        read_record(path, rate_hz=500)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickled"):
        read_record(tmp_path / "b.npy", rate_hz=500)


def test_microvolts_read_as_millivolts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="check gain and unit"):
        read_record(csv(tmp_path / "a.csv", scale=1000), rate_hz=500)


def test_edf_at_two_rates(tmp_path: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    path = tmp_path / "a.edf"
    with pyedflib.EdfWriter(str(path), 12, file_type=pyedflib.FILETYPE_EDFPLUS) as file:
        for i, lead in enumerate(LEADS):
            file.setSignalHeader(i, {
                "label": f"ECG {lead}", "dimension": "uV", "sample_frequency": 500, "physical_max": 5000.0,
                "physical_min": -5000.0, "digital_max": 32767, "digital_min": -32768, "prefilter": "", "transducer": "",
            })  # fmt: skip
        file.setSex(0)
        file.setBirthdate(datetime(1950, 5, 8))
        file.setStartdatetime(datetime(2020, 5, 7))
        file.writeSamples([np.ascontiguousarray(row, dtype=float) * 1000 for row in STRIP.signal])
    same(path)
    assert (read_record(path).patient.age_years, read_record(path).patient.sex) == (69, "F")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read"):
        read_record(path)


def dicom(path: Path, unit: str = "uV") -> Path:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.PatientAge, data.PatientSex = "061Y", "M"
    group = Dataset()
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 12, STRIP.signal.shape[1]
    group.SamplingFrequency, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = "500", 16, "SS"
    definitions = []
    for lead in LEADS:
        source = Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "x", "MDC", f"Lead {lead} (Einthoven)"
        units = Dataset()
        units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", "unit"
        definition = Dataset()
        definition.ChannelSourceSequence = Sequence([source])
        definition.ChannelSensitivityUnitsSequence = Sequence([units])
        definition.ChannelSensitivity, definition.ChannelSensitivityCorrectionFactor = "1", "1"
        definition.ChannelBaseline, definition.WaveformBitsStored = "0", 16
        definitions.append(definition)
    group.ChannelDefinitionSequence = Sequence(definitions)
    group.WaveformData = np.round(STRIP.signal.T * 1000).astype("<i2").tobytes()
    data.WaveformSequence = Sequence([group])
    data.save_as(path, enforce_file_format=True)
    return path


def test_dicom(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm")
    same(path)
    assert (read_record(path).patient.age_years, read_record(path).patient.sex) == (61, "M")
    with pytest.raises(ValueError, match="check gain and unit"):
        read_record(dicom(tmp_path / "b.dcm", "mV"))
    (tmp_path / "c.dcm").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="DICOM"):
        read_record(tmp_path / "c.dcm")


def aecg(path: Path, root: str = "AnnotatedECG") -> Path:
    def sequence(code: str, value: str) -> str:
        return f'<component><sequence><code code="{code}"/>{value}</sequence></component>'

    time = '<value xsi:type="GLIST_TS"><head value="20200507"/><increment value="2" unit="ms"/></value>'
    parts = [sequence("TIME_ABSOLUTE", time)]
    for lead, row in zip(LEADS, STRIP.signal):
        digits = " ".join(str(round(float(x) * 200)) for x in row)
        scaled = f'<origin value="0" unit="uV"/><scale value="5" unit="uV"/><digits>{digits}</digits>'
        parts.append(sequence(f"MDC_ECG_LEAD_{lead.upper()}", f'<value xsi:type="SLIST_PQ">{scaled}</value>'))
    person = '<administrativeGenderCode code="F"/><birthTime value="19530508"/>'
    when = '<effectiveTime><low value="20200507103000"/></effectiveTime>'
    series = (
        f"<component><series><component><sequenceSet>{''.join(parts)}</sequenceSet></component></series></component>"
    )
    space = 'xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    path.write_text(f"<?xml version='1.0'?><{root} {space}>{when}{person}{series}</{root}>", encoding="utf-8")
    return path


def test_hl7_annotated_ecg(tmp_path: Path) -> None:
    path = aecg(tmp_path / "a.xml")
    same(path, 5e-3)
    assert (read_record(path).patient.age_years, read_record(path).patient.sex) == (66, "F")
    with pytest.raises(ValueError, match="kind 'RestingECG'"):
        read_record(aecg(tmp_path / "b.xml", "RestingECG"))
    (tmp_path / "c.xml").write_text("<!DOCTYPE x [<!ENTITY a 'b'>]><AnnotatedECG/>", encoding="utf-8")
    with pytest.raises(ValueError, match="DOCTYPE"):
        read_record(tmp_path / "c.xml")


@pytest.mark.parametrize("suffix", [".scp", ".pdf", ".ecg"])
def test_what_cannot_be_read_says_how_to_convert(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected WFDB|expected its samples"):
        read_record(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.csv", "a.edf", "a.dcm", "a.xml", "a.npz", "a.hea"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no"):
        read_record(tmp_path / name)


def test_leads_are_put_right_only_when_asked_for(tmp_path: Path) -> None:
    order = list(LEADS)
    order[4], order[5] = order[5], order[4]
    path = csv(tmp_path / "a.csv", ",".join(order))
    record = read_record(path, rate_hz=500)
    assert any("aVL and aVF are exchanged" in remark and "--fix-leads" in remark for remark in record.remarks)
    assert not np.allclose(record.ecg.lead("aVL"), STRIP.lead("aVL"), atol=0.05)
    fixed = read_record(path, rate_hz=500, fix_leads=True)
    np.testing.assert_allclose(fixed.ecg.signal, ECG(STRIP.signal, 500).signal, atol=2e-3)
    assert any("put right" in remark for remark in fixed.remarks)
