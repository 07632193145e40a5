"""Episodes on disk: one JSON document with all that was seen and done, strips too, and what it takes to replay it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import ecg_gym
from ecg_gym.core import LEADS, MODEL_SAMPLES, Administration, Patient, parse_dose
from ecg_gym.io import write_json
from planners.plan import NOTICE, jsonable

KIND, SCHEMA = "ecg-gym episode", 1
ENV_IDS = ("ECGIntervention-v0",)
SETTINGS = {  # what `play` makes an env with
    "world": str, "risk": str, "scenario": str, "horizon": int, "tier": str, "mask": str,
}  # fmt: skip
MOST_HOURS = 1e5  # eleven years
OPTIONS = ("ecg",)  # what it resets one with
MICROVOLTS = 1000.0  # per mV: strips are stored as whole microvolts


@dataclass(frozen=True)
class Look:
    """What was seen at one time, and what was done then."""

    hours: float
    ecg: np.ndarray  # (12, 1024) float32 [mV], as seen
    missing: tuple[str, ...]  # leads that were off
    read: Mapping[str, float]  # intervals, risk, cost; NaN where not measurable
    forbidden: Mapping[str, tuple[str, ...]]  # treatments of the menu that the rules forbid now, and why
    action: int | None = None  # what was chosen then; None at the end
    treatment: str = ""
    reward: float | None = None  # what the step brought
    terms: Mapping[str, float] = field(default_factory=dict)  # of the reward


@dataclass(frozen=True)
class SavedEpisode:
    """An episode that was played, or is being played."""

    env: Mapping[str, Any]  # id and keyword arguments of gym.make
    seed: int
    options: Mapping[str, Any]  # of reset
    scenario: str
    goal: str
    patient: Patient
    menu: tuple[str, ...]
    doses: tuple[Administration, ...]
    looks: tuple[Look, ...]
    ended: str  # "lethal", "horizon", or "" where it was left
    model_sha256: str = ""
    risk_sha256: str = ""

    @property
    def actions(self) -> tuple[int, ...]:
        """What was chosen, in order."""
        return tuple(look.action for look in self.looks if look.action is not None)

    @property
    def code(self) -> tuple[str, ...]:
        """Settings that name code: to make such an env again is to run it."""
        sources = [str(self.env["kwargs"].get(name, "")) for name in ("world", "risk")]
        return tuple(name for name in sources if ":" in name)

    @property
    def total(self) -> float:
        """The undiscounted return so far."""
        return float(sum(look.reward for look in self.looks if look.reward is not None))


def write(episode: SavedEpisode, path: Path) -> None:
    """Written aside and renamed: the file is whole, or it is the one before."""
    document = {
        "kind": KIND,
        "schema": SCHEMA,
        "notice": NOTICE,
        "version": ecg_gym.__version__,
        **{name: value for name, value in vars(episode).items() if name not in ("patient", "doses", "looks")},
        "patient": asdict(episode.patient),
        "taken": [{"hours": a.hours, "dose": str(a.dose)} for a in episode.doses],
        "total_reward": episode.total,
        "looks": [{**vars(look), "ecg": packed(look.ecg)} for look in episode.looks],
    }
    write_json(path, jsonable(document), indent=1)


def read(path: Path) -> SavedEpisode:
    """The episode in a file; ``ValueError`` with what is wrong for anything else."""
    return parse(load(path), path)


def load(path: Path) -> Any:
    """The JSON document in a file; ``ValueError`` in three parts where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise ValueError(
            f"{path} is not JSON ({error}); expected a saved episode or a benchmark result; check the file"
        ) from None


def parse(document: Any, path: Path | str = "the document") -> SavedEpisode:
    """A document as an episode; ``ValueError`` names the first thing that is wrong."""
    if not isinstance(document, Mapping) or document.get("kind") != KIND or document.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} is no episode of schema {SCHEMA}; expected a file that `ecg-gym play` saved; check which it is"
        )
    try:
        menu, looks = tuple(map(str, document["menu"])), tuple(map(_look, document["looks"]))
        if not looks or not all(look.action is None or 0 <= look.action < len(menu) for look in looks):
            raise ValueError("a first look and actions of the menu are needed")
        return SavedEpisode(
            env={"id": _one_of(ENV_IDS, document["env"]["id"]), "kwargs": _settings(document["env"]["kwargs"])},
            seed=int(document["seed"]),
            options={_one_of(OPTIONS, key): str(value) for key, value in document["options"].items()},
            scenario=str(document["scenario"]),
            goal=str(document["goal"]),
            patient=Patient(**document["patient"]),
            menu=menu,
            doses=tuple(Administration(float(a["hours"]), parse_dose(a["dose"])) for a in document["taken"]),
            looks=looks,
            ended=str(document["ended"]),
            model_sha256=str(document["model_sha256"]),
            risk_sha256=str(document["risk_sha256"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is an episode with a broken part ({type(error).__name__}: {error}); expected it as it was saved; "
            "play it again"
        ) from error


def packed(strip: np.ndarray) -> str:
    """A strip ``(12, 1024)`` [mV] as base64 of little-endian int16 microvolts, NaN as the least of them."""
    microvolts = np.clip(np.round(np.asarray(strip, dtype=float) * MICROVOLTS), -32767, 32767)
    return base64.b64encode(np.where(np.isfinite(microvolts), microvolts, -32768).astype("<i2").tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """The strip ``(12, 1024)`` float32 [mV] that :func:`packed` packed."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), "<i2")
    if len(raw) != len(LEADS) * MODEL_SAMPLES:
        raise ValueError(f"a strip holds {len(raw)} samples; expected {len(LEADS)} x {MODEL_SAMPLES}")
    return np.where(raw == -32768, np.nan, raw / MICROVOLTS).astype(np.float32).reshape(len(LEADS), MODEL_SAMPLES)


def _look(row: Mapping[str, Any]) -> Look:
    read = {str(name): float("nan") if value is None else float(value) for name, value in row["read"].items()}
    if not abs(hours := float(row["hours"])) <= MOST_HOURS or any(abs(value) > 1e9 for value in read.values()):
        raise ValueError(f"a look at {hours} h reads {read}; nobody could have seen that")
    return Look(
        hours=hours,
        ecg=unpacked(row["ecg"]),
        missing=_leads(row["missing"]),
        read=read,
        forbidden={str(name): tuple(map(str, why)) for name, why in row["forbidden"].items()},
        action=None if row["action"] is None else int(row["action"]),
        treatment=str(row["treatment"]),
        reward=None if row["reward"] is None else float(row["reward"]),
        terms={str(name): float(value) for name, value in row["terms"].items()},
    )


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _one_of(words: Sequence[str], word: Any) -> str:
    if word not in words:
        raise ValueError(f"{word!r} is none of {tuple(words)}")
    return str(word)


def _settings(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in kwargs.items():
        if type(value) is not SETTINGS[_one_of(tuple(SETTINGS), name)]:
            raise ValueError(f"{name} is {value!r}; a {SETTINGS[name].__name__} is needed")
    return dict(kwargs)


def _leads(names: Sequence[Any]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in LEADS]:
        raise ValueError(f"missing leads {unknown} are none of {LEADS}")
    return tuple(names)
