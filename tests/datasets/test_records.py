"""Every way a record can be good or bad, on small files written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from analytic_ecg import analytic

from ecg_gym.core import ECG, LEADS, Patient
from ecg_gym.datasets import read_record, write_record
from ecg_gym.waveform import measure

wfdb = pytest.importorskip("wfdb")


def write(
    folder: Path, ecg: ECG, names: tuple[str, ...] = LEADS, order: tuple[str, ...] | None = None,
    unit: str = "mV", scale: float = 1.0, comments: tuple[str, ...] = (), replaced: dict[str, np.ndarray] | None = None,
) -> Path:  # fmt: skip
    """A WFDB record named ``r`` with the leads of ``order`` called ``names``."""
    signal = [(replaced or {}).get(lead, ecg.lead(lead)) for lead in order or LEADS]
    wfdb.wrsamp(
        "r", fs=ecg.rate_hz, units=[unit] * len(signal), sig_name=list(names), fmt=["16"] * len(signal),
        p_signal=np.stack(signal, axis=-1).astype(float) * scale, adc_gain=[1000.0 / scale] * len(signal),
        baseline=[0] * len(signal), comments=list(comments), write_dir=str(folder),
    )  # fmt: skip
    return folder / "r"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    ecg = analytic(noise_mv=0.01)
    header = write_record(tmp_path / "new" / "one", ecg, comments=["virtual"], patient=Patient(age_years=61, sex="F"))
    assert sorted(path.name for path in header.parent.iterdir()) == ["one.dat", "one.hea"]
    record = read_record(header)
    assert record.ecg.signal == pytest.approx(ecg.signal, abs=6e-4)
    assert record.ecg.rate_hz == 500
    assert (record.name, record.start_s, record.total_s, record.remarks) == ("one", 0, 10, ())
    assert record.patient == Patient(age_years=61, sex="F")


@pytest.mark.parametrize(
    "names",
    [
        tuple(lead.lower() for lead in LEADS),
        tuple(lead.upper() for lead in LEADS),
        tuple(f"Lead {lead}" for lead in LEADS),
        tuple(f"MDC_ECG_LEAD_{lead}" for lead in LEADS),
        tuple(f"ECG {lead}" for lead in LEADS),
        ("DI", "DII", "DIII", "aVR", "aVL", "aVF", "C1", "C2", "C3", "C4", "C5", "C6"),
    ],
)
def test_spellings_in_use(tmp_path: Path, names: tuple[str, ...]) -> None:
    record = read_record(write(tmp_path, analytic(), names))
    assert record.ecg.signal == pytest.approx(analytic().signal, abs=6e-4)


def test_any_order_by_name(tmp_path: Path) -> None:
    order = ("V6", "V5", "V4", "V3", "V2", "V1", "I", "II", "III", "aVR", "aVF", "aVL")  # aVF before aVL as in MIMIC
    assert read_record(write(tmp_path, analytic(), order, order)).ecg.signal == pytest.approx(
        analytic().signal, abs=6e-4
    )


@pytest.mark.parametrize(("unit", "scale"), [("uV", 1e3), ("V", 1e-3), ("mV", 1.0), ("microvolts", 1e3)])
def test_units_become_millivolts(tmp_path: Path, unit: str, scale: float) -> None:
    assert read_record(write(tmp_path, analytic(), unit=unit, scale=scale)).ecg.signal == pytest.approx(
        analytic().signal, abs=6e-4
    )


def test_more_channels_than_twelve(tmp_path: Path) -> None:
    record = read_record(write(tmp_path, analytic(), (*LEADS, "vx", "MLII"), (*LEADS, "V1", "V2")))
    assert record.remarks == ("channels not used: vx, MLII",)


def test_channels_nobody_needs_may_lie_in_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, analytic(), (*LEADS, "vx"), (*LEADS, "V1"))
    signal = wfdb.rdrecord(str(path), channels=list(range(12)))
    write(tmp_path, analytic())
    lines = (tmp_path / "r.hea").read_text().splitlines()
    lines[0] = lines[0].replace("r 12", "r 13")
    lines.append("r.xyz 16 1000.0(0)/mV 16 0 0 0 0 vx")
    (tmp_path / "r.hea").write_text("\n".join(lines) + "\n")
    assert read_record(path).ecg.signal == pytest.approx(signal.p_signal.T, abs=1e-6)


def test_minus_avr_is_turned_round(tmp_path: Path) -> None:
    names = tuple("-aVR" if lead == "aVR" else lead for lead in LEADS)
    record = read_record(write(tmp_path, analytic(), names, replaced={"aVR": -analytic().lead("aVR")}))
    assert record.ecg.lead("aVR") == pytest.approx(analytic().lead("aVR"), abs=6e-4)
    assert "turned round" in record.remarks[0]


@pytest.mark.parametrize("kept", [("I", "II"), ("II", "III"), ("I", "III")])
def test_limb_leads_follow_from_two(tmp_path: Path, kept: tuple[str, ...]) -> None:
    order = (*kept, *LEADS[6:])
    record = read_record(write(tmp_path, analytic(), order, order))
    assert record.ecg.signal == pytest.approx(analytic().signal, abs=2e-3)
    assert record.ecg.missing == ()
    assert "computed from two limb leads" in record.remarks[0]


def test_of_a_long_record_the_best_ten_seconds(tmp_path: Path) -> None:
    record = read_record(write(tmp_path, analytic(seconds=25.0)))
    assert record.ecg.seconds == 10
    assert record.total_s == 25
    assert "best 10 s of 25.0 s taken" in record.remarks[0]
    whole = analytic(seconds=25.0).signal
    first = round(record.start_s * 500)
    assert record.ecg.signal == pytest.approx(whole[:, first : first + 5000], abs=6e-4)


def test_a_gap_is_avoided_in_a_long_record(tmp_path: Path) -> None:
    lead = analytic(seconds=25.0).lead("V2").copy()
    lead[:6000] = np.nan
    assert read_record(write(tmp_path, analytic(seconds=25.0), replaced={"V2": lead})).start_s >= 12


@pytest.mark.parametrize(
    ("comments", "patient", "remark"),
    [
        (("Age: 74", "Sex: Male"), Patient(age_years=74, sex="M"), ""),
        (("<age>: 51", "<sex>: F"), Patient(age_years=51, sex="F"), ""),
        (("age: 81", "sex: female"), Patient(age_years=81, sex="F"), ""),
        (("Age: NaN", "Sex: Unknown"), Patient(), ""),
        (("Age: 300",), Patient(age_years=90), "stands for over 89"),
        ((), Patient(), ""),
    ],
)
def test_the_patient_is_in_the_comments(
    tmp_path: Path, comments: tuple[str, ...], patient: Patient, remark: str
) -> None:
    record = read_record(write(tmp_path, analytic(), comments=comments))
    assert record.patient == patient
    assert remark in " ".join(record.remarks)


def refused(kind: type[Exception], path: Path, *parts: str, **how: bool) -> None:
    """The message holds what arrived, what was expected and what to do, in that order and separated by semicolons."""
    with pytest.raises(kind) as caught:
        read_record(path, **how)
    message = str(caught.value)
    assert message.count(";") >= 2, message
    at = [message.find(part) for part in parts]
    assert all(a >= 0 for a in at), message
    assert at == sorted(at), message
    assert "\n" not in message


def test_no_such_path(tmp_path: Path) -> None:
    refused(FileNotFoundError, tmp_path / "nobody", "there is no", "expected a WFDB header", "give the path")


def test_header_without_signal(tmp_path: Path) -> None:
    path = write(tmp_path, analytic())
    (tmp_path / "r.dat").unlink()
    refused(FileNotFoundError, path, "no signal file", "expected both", "copy the signal file")


def test_truncated_signal(tmp_path: Path) -> None:
    path = write(tmp_path, analytic())
    content = (tmp_path / "r.dat").read_bytes()
    (tmp_path / "r.dat").write_bytes(content[:-100])
    sizes = f"has {len(content) - 100} bytes", f"expected {len(content)}"
    refused(ValueError, path, *sizes, "is truncated", "copy it again")


def test_nonsense_header(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("this is not a header\n")
    refused(ValueError, tmp_path / "r", "cannot be read", "expected a WFDB header", "compare")


def test_missing_chest_lead(tmp_path: Path) -> None:
    order = tuple(lead for lead in LEADS if lead != "V3")
    path = write(tmp_path, analytic(), order, order)
    refused(ValueError, path, "lacks V3", "expected", "--allow-missing-leads")
    record = read_record(path, allow_missing_leads=True)
    assert record.ecg.missing == ("V3",)
    assert not record.ecg.lead("V3").any()
    assert record.remarks == ("missing, set to zero: V3",)


def test_duplicate_lead(tmp_path: Path) -> None:
    names = tuple("v1" if lead == "V2" else lead for lead in LEADS)
    refused(ValueError, write(tmp_path, analytic(), names), "lead V1 twice", "expected each", "rename")


def test_no_standard_lead(tmp_path: Path) -> None:
    path = write(tmp_path, analytic(), tuple(f"ch{i}" for i in range(12)))
    refused(ValueError, path, "none of them", "expected", "rename")


def test_unknown_unit(tmp_path: Path) -> None:
    refused(ValueError, write(tmp_path, analytic(), unit="furlong"), "in 'furlong'", "expected V, mV or uV", "correct")


@pytest.mark.parametrize(
    ("lead", "level", "word"), [("V5", 0.3, "is flat"), ("V1", 0.0, "is flat"), ("V5", np.nan, "without a number")]
)
def test_flat_or_nan_lead(tmp_path: Path, lead: str, level: float, word: str) -> None:
    path = write(tmp_path, analytic(), replaced={lead: np.full(5000, level)})
    refused(ValueError, path, f"{lead} ", word, "expected a signal", "--allow-missing-leads")
    record = read_record(path, allow_missing_leads=True)
    assert record.ecg.missing == (lead,)
    assert not record.ecg.lead(lead).any()
    assert word in record.remarks[0]
    assert np.isfinite(measure(record.ecg).qt_ms[0])


def test_a_flat_limb_lead_is_computed_when_allowed(tmp_path: Path) -> None:
    record = read_record(write(tmp_path, analytic(), replaced={"aVL": np.zeros(5000)}), allow_missing_leads=True)
    assert record.ecg.lead("aVL") == pytest.approx(analytic().lead("aVL"), abs=2e-3)
    assert record.ecg.missing == ()


def test_no_beats(tmp_path: Path) -> None:
    noise = ECG(0.05 * np.random.default_rng(0).standard_normal((12, 5000)), 500.0)
    refused(ValueError, write(tmp_path, noise), "fewer than two beats", "expected a strip with QRS", "look at")


def test_too_short(tmp_path: Path) -> None:
    path = write(tmp_path, analytic(seconds=6.0))
    refused(ValueError, path, "lasts 6.00 s", "expected at least 8 s", "record a longer")


def test_sampling_rate_out_of_range(tmp_path: Path) -> None:
    refused(ValueError, write(tmp_path, analytic(rate_hz=50.0)), "sampled at 50", "expected 100 to 1000 Hz", "resample")


def test_what_write_record_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one strip \(12, T\); write the rows"):
        write_record(tmp_path / "r", ECG(np.zeros((2, 12, 100)), 500.0))
    with pytest.raises(ValueError, match=r"record name is 'a b'; expected letters"):
        write_record(tmp_path / "a b", analytic())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ludb", "ptbxl_100hz", "challenge_2020_2021", "wfdb_samples"])
def test_real_records_are_read(real_data, name: str) -> None:
    headers = sorted(real_data(name).rglob("*.hea"))
    for header in headers[:: max(1, len(headers) // 8)]:
        record = read_record(header, allow_missing_leads=True)
        assert record.ecg.signal.shape[0] == 12
        assert 8 <= record.ecg.seconds <= 10
        assert 25 < measure(record.ecg).hr_bpm[0] < 250


def header_with(path: Path, old: bytes, new: bytes) -> None:
    """The header with some bytes replaced everywhere."""
    file = path.with_suffix(".hea")
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("micro", [b"\xb5V", "\u00b5V".encode(), "\u03bcV".encode(), b"\xe6V"])
def test_a_micro_sign_in_any_encoding_is_microvolt(tmp_path: Path, micro: bytes) -> None:
    path = write(tmp_path, analytic(), unit="uV", scale=1e3)
    header_with(path, b"/uV", b"/" + micro)
    assert read_record(path).ecg.signal == pytest.approx(analytic().signal, abs=6e-4)


def test_millivolts_that_are_microvolts_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, analytic(), unit="uV", scale=1e3)
    header_with(path, b"/uV", b"/mV")
    refused(ValueError, path, "moves by", "expected at most 20 mV", "check gain and unit")


@pytest.mark.parametrize(("new", "what"), [(b" 0/mV", "gain 0"), (b"", "no gain")])
def test_an_uncalibrated_lead_is_refused(tmp_path: Path, new: bytes, what: str) -> None:
    path = write(tmp_path, analytic())
    lines = path.with_suffix(".hea").read_bytes().splitlines()
    fields = lines[1].split(b" ")
    lines[1] = b" ".join(fields[:2]) if not new else b" ".join([*fields[:2], new.strip(), *fields[3:]])
    if not new:
        lines[1] += b" "
        header = b"\n".join(lines).replace(fields[-1], fields[-1])
        path.with_suffix(".hea").write_bytes(header + b"\n")
        with pytest.raises(ValueError):
            read_record(path)
        return
    path.with_suffix(".hea").write_bytes(b"\n".join(lines) + b"\n")
    refused(ValueError, path, what, "expected a gain", "check gain and unit")


def test_a_header_without_a_rate_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, analytic(rate_hz=250.0))
    lines = path.with_suffix(".hea").read_text().splitlines()
    lines[0] = "r 12"
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")
    record = read_record(path)
    assert record.ecg.rate_hz == 250
    assert "no sampling rate" in record.remarks[0]


def test_a_damaged_signal_is_told_by_its_checksum(tmp_path: Path) -> None:
    path = write(tmp_path, analytic())
    content = bytearray((tmp_path / "r.dat").read_bytes())
    content[1001] ^= 0x01
    (tmp_path / "r.dat").write_bytes(bytes(content))
    refused(ValueError, path, "checksum", "expected the samples", "copy it again")


def test_frames_with_several_rates_keep_the_highest(tmp_path: Path) -> None:
    ecg = analytic()
    slow = analytic(rate_hz=250.0)
    expanded = [ecg.lead(lead).astype(float) if lead != "V6" else slow.lead("V6").astype(float) for lead in LEADS]
    wfdb.wrsamp(
        "r", fs=250, units=["mV"] * 12, sig_name=list(LEADS), fmt=["16"] * 12, e_p_signal=expanded,
        samps_per_frame=[2] * 11 + [1], adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(tmp_path),
    )  # fmt: skip
    record = read_record(tmp_path / "r")
    assert record.ecg.rate_hz == 500
    assert record.ecg.signal[:11] == pytest.approx(ecg.signal[:11], abs=2e-3)
    assert record.ecg.lead("V6")[100:-100] == pytest.approx(ecg.lead("V6")[100:-100], abs=0.02)
    assert "resampled to 500 Hz: V6" in record.remarks


def test_skewed_signals_are_shifted_and_trimmed(tmp_path: Path) -> None:
    ecg, skew = analytic(seconds=10.4), 20
    late = np.concatenate([np.zeros(skew), ecg.lead("V6")[:-skew]])
    path = write(tmp_path, ecg, replaced={"V6": late})
    lines = path.with_suffix(".hea").read_text().splitlines()
    lines[12] = lines[12].replace(" 16 ", f" 16:{skew} ", 1)
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")
    record = read_record(path, start_s=0.0)
    assert np.isfinite(record.ecg.signal).all()
    assert record.ecg.lead("V6") == pytest.approx(ecg.lead("V6")[:5000], abs=2e-3)
    assert record.ecg.lead("V5") == pytest.approx(ecg.lead("V5")[:5000], abs=2e-3)


@pytest.mark.parametrize(
    ("comments", "patient", "remark"),
    [
        (("Age: 61Y", "Sex: Mujer"), Patient(age_years=61, sex="F"), ""),
        (("<age>: 65 <sex>: F",), Patient(age_years=65, sex="F"), ""),
        (("Age: 5",), Patient(), "age '5' in the header is taken as unknown (expected 16 to 110 years)"),
        (("Age: 115",), Patient(), "expected 16 to 110 years"),
        (("Sex: Marsian",), Patient(), "sex 'Marsian' in the header is not understood"),
    ],
)
def test_the_words_of_a_header_are_those_of_the_command_line(
    tmp_path: Path, comments: tuple[str, ...], patient: Patient, remark: str
) -> None:
    record = read_record(write(tmp_path, analytic(), comments=comments))
    assert record.patient == patient
    assert remark in " ".join(record.remarks)
