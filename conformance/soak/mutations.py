"""Inputs that strangers hand in, each kind broken in ways of its own: ``FAMILIES[name](rng, folder) -> Attempt``."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import ecg_gym
from conformance.soak.mutate import ODD, odd, some_bytes, some_text, some_tree
from ecg_gym.yaml_files import read_yaml

ASSETS = Path(ecg_gym.__file__).parent / "assets"
WEIGHTS = ("vae", "risk", "world_model", "student")


@dataclass(frozen=True)
class Attempt:
    """One broken input: what was done to it, and what a user would do with it."""

    what: str
    use: Callable[[], Any]


Family = Callable[[np.random.Generator, Path], Attempt]


@lru_cache(maxsize=16)
def _content(path: Path) -> bytes:
    return path.read_bytes()


def record_header(rng: np.random.Generator, folder: Path) -> Attempt:
    """A WFDB header with a line, word or byte that is wrong."""
    text, what = some_text(_content(ASSETS / "default_patient.hea").decode(), rng)
    (folder / "default_patient.hea").write_bytes(text)
    (folder / "default_patient.dat").write_bytes(_content(ASSETS / "default_patient.dat"))
    return Attempt(what, _reading(folder / "default_patient", bool(rng.random() < 0.5)))


def record_signal(rng: np.random.Generator, folder: Path) -> Attempt:
    """A WFDB signal file that is damaged, or of another record."""
    data, what = some_bytes(_content(ASSETS / "default_patient.dat"), rng)
    (folder / "default_patient.hea").write_bytes(_content(ASSETS / "default_patient.hea"))
    (folder / "default_patient.dat").write_bytes(data)
    return Attempt(what, _reading(folder / "default_patient", bool(rng.random() < 0.5)))


def _reading(path: Path, allow_missing: bool) -> Callable[[], Any]:
    from ecg_gym.datasets import read_record

    return lambda: read_record(path, allow_missing_leads=allow_missing)


@lru_cache(maxsize=1)
def _formulary() -> dict[str, Any]:
    from ecg_gym.pharmacology.constants import read_table

    return dict(read_table("formulary.yaml"))


def drug(rng: np.random.Generator, folder: Path) -> Attempt:
    """A row of the formulary with an entry that is wrong."""
    from ecg_gym.core import Patient
    from ecg_gym.pharmacology import Formulary

    table = _formulary()
    name = str(rng.choice(list(table)))
    row, what = some_tree({name: table[name]}, rng)

    def use() -> None:
        formulary = Formulary(row)
        for treatment in formulary.menu():
            for dose in treatment.doses:
                formulary.check(dose, Patient(weight_kg=70.0))

    return Attempt(f"{name}: {what}", use)


@lru_cache(maxsize=1)
def _scenarios() -> dict[str, Any]:
    from ecg_gym.envs import scenarios

    return dict(read_yaml(scenarios.TABLE))


def scenario(rng: np.random.Generator, folder: Path) -> Attempt:
    """A row of the scenarios with an entry that is wrong."""
    from ecg_gym.envs.scenarios import parse

    table = _scenarios()
    name = str(rng.choice(list(table)))
    row, what = some_tree({name: table[name]}, rng)

    def use() -> None:
        for called, entries in row.items():
            scenario = parse(called, entries)
            assert scenario.menu

    return Attempt(f"{name}: {what}", use)


@lru_cache(maxsize=8)
def _protocol(name: str) -> str:
    from ecg_gym.clinical_trial.protocol import SHIPPED

    return (SHIPPED / name).read_text(encoding="utf-8")


def protocol_text(rng: np.random.Generator, folder: Path) -> Attempt:
    """A trial's YAML file with a line, word or byte that is wrong."""
    text, what = some_text(_protocol(str(rng.choice(["ecgrdvq.yaml", "scr004.yaml"]))), rng)
    (folder / "mine.yaml").write_bytes(text)
    return Attempt(what, _trial(folder / "mine.yaml"))


def protocol_tree(rng: np.random.Generator, folder: Path) -> Attempt:
    """A trial's YAML file with an entry that is wrong."""
    tree, what = some_tree(yaml.safe_load(_protocol(str(rng.choice(["ecgrdvq.yaml", "scr004.yaml"])))), rng)
    (folder / "mine.yaml").write_text(yaml.dump(tree), encoding="utf-8")
    return Attempt(what, _trial(folder / "mine.yaml"))


def _trial(path: Path) -> Callable[[], Any]:
    from ecg_gym.clinical_trial import load_protocol

    return lambda: load_protocol(path)


PERSON = {
    "age": 71, "sex": "F", "weight": 62.5, "height": 160, "K": 3.1, "Mg": 0.8, "Ca": 2.2, "crcl": 55,
    "conditions": ["heart_failure", "asthma"], "medication": ["warfarin"],
}  # fmt: skip


def patient(rng: np.random.Generator, folder: Path) -> Attempt:
    """Who the patient is, in words or in a YAML file."""
    from planners.parsing import parse_patient

    if rng.random() < 0.5:
        text, what = some_text("age=71,sex=F,K=3.1,conditions=heart_failure+asthma,weight=62.5", rng)
        words = text.decode(errors="replace")
        return Attempt(f"words: {what}", lambda: parse_patient(words))
    tree, what = some_tree(PERSON, rng)
    spoilt, more = some_text(yaml.dump(tree), rng) if rng.random() < 0.3 else (yaml.dump(tree).encode(), "")
    (folder / "person.yaml").write_bytes(spoilt)
    return Attempt(f"file: {what} {more}", lambda: parse_patient(str(folder / "person.yaml")))


def doses(rng: np.random.Generator, folder: Path) -> Attempt:
    """Doses and candidates in words."""
    from ecg_gym.core import Patient
    from planners.parsing import parse_candidates, parse_given

    good = ("dofetilide 0.5 mg PO @ -2h", "amiodarone 150 mg IV over 10 min @ -1h", "esmolol 50 mcg/kg/min IV @ 0h")
    text, what = some_text(str(rng.choice(good)), rng)
    words, person = text.decode(errors="replace"), Patient(weight_kg=70.0)
    if rng.random() < 0.5:
        return Attempt(f"given: {what}", lambda: parse_given([words], person))
    offer = words.split("@")[0]
    return Attempt(f"candidates: {what}", lambda: parse_candidates(offer, person))


@lru_cache(maxsize=4)
def _env(invalid: str = "noop", actions: str = "discrete") -> Any:
    """One env for the whole process, on the world that costs nothing: what is tried never gets as far as a draw."""
    import gymnasium as gym

    env = gym.make(
        "ECGInterventionOracle-v0", risk="limits", invalid_action=invalid, actions=actions, disable_env_checker=True
    )
    env.reset(seed=0)
    return env


def options(rng: np.random.Generator, folder: Path) -> Attempt:
    """``reset(options=...)`` with words or values that are wrong."""
    good = {
        "scenario": "af_rapid_response",
        "patient": {"age_years": 71, "sex": "F", "potassium": 3.9, "conditions": ["heart_failure"]},
        "given": [{"dose": "dofetilide 0.5 mg PO", "hours": -2}],
    }
    tree, what = some_tree(good, rng)
    if rng.random() < 0.1:
        tree, what = odd(rng), "options are no mapping"
    elif rng.random() < 0.15:
        tree["ecg"], what = odd(rng), "ecg is odd"
    return Attempt(what, lambda: _env().reset(seed=1, options=tree))


def action(rng: np.random.Generator, folder: Path) -> Attempt:
    """An action that is no action."""
    kind = str(rng.choice(["discrete", "multidiscrete"]))
    env = _env(str(rng.choice(["noop", "raise", "terminate"])), kind)
    odder = (
        np.nan, np.array(3.7), np.array([1, 2, 3, 4]), np.array([[0]]), np.array([-5, 2]), np.array([99, 0]),
        np.array([0.5, 1.0]), np.int64(-7), np.int64(10_000), np.array(["a"]), np.array([]), np.bool_(True), 1 + 2j,
    )  # fmt: skip
    every = (*ODD, *odder)
    choice = every[int(rng.integers(len(every)))]

    def use() -> None:
        env.reset(seed=2)
        env.step(choice)

    return Attempt(f"{kind}: {type(choice).__name__} {choice!r}"[:120], use)


@lru_cache(maxsize=2)
def _envs(kind: str) -> Any:
    import gymnasium as gym

    envs = gym.make_vec("ECGInterventionOracle-v0", num_envs=2, risk="limits", actions=kind)
    envs.reset(seed=0)
    return envs


def vector_action(rng: np.random.Generator, folder: Path) -> Attempt:
    """Actions for two envs that are none."""
    kind = str(rng.choice(["discrete", "multidiscrete"]))
    envs = _envs(kind)
    good = envs.action_space.sample() * 0
    choice: Any = np.array(good, dtype=object)
    how = int(rng.integers(4))
    if how == 0:
        choice = odd(rng)
    elif how == 1:
        choice.flat[int(rng.integers(choice.size))] = odd(rng)
        choice = choice.tolist()
    elif how == 2:
        choice = np.resize(good, tuple(int(n) for n in rng.integers(0, 4, size=int(rng.integers(0, 4)))))
    else:
        choice = good.astype(str(rng.choice(["float64", "int8", "uint64", "bool", "complex128", "U3"])))
        choice.flat[0] = rng.choice([0, 1])

    def use() -> None:
        envs.reset(seed=2)
        envs.step(choice)

    return Attempt(f"{kind}: {choice!r}"[:120], use)


def env_arguments(rng: np.random.Generator, folder: Path) -> Attempt:
    """``gym.make(id, ...)`` with an argument that is wrong."""
    import inspect

    import gymnasium as gym

    from ecg_gym.envs.env import ECGInterventionEnv

    names = [
        name for name in inspect.signature(ECGInterventionEnv.__init__).parameters if name not in ("self", "world")
    ]
    name, value = str(rng.choice([*names, "unknown_word"])), odd(rng)
    value = str(value) if name == "render_mode" else value  # Gymnasium looks at it first, and asks it for endswith()
    kwargs: dict[str, Any] = {"risk": "limits", name: value}

    def use() -> None:
        env = gym.make("ECGInterventionOracle-v0", disable_env_checker=True, **kwargs)
        env.reset(seed=0)
        env.step(env.action_space.sample() * 0)
        env.close()

    return Attempt(f"{name} is {value!r}"[:120], use)


def checkpoint_bytes(rng: np.random.Generator, folder: Path) -> Attempt:
    """Weights that were cut off, flipped, padded or zeroed on the way."""
    name = str(rng.choice(WEIGHTS))
    data, what = some_bytes(_content(ASSETS / f"{name}.safetensors"), rng)
    if rng.random() < 0.5:  # most damage hits numbers; half of the time it shall hit the head
        head = 8 + struct.unpack("<Q", _content(ASSETS / f"{name}.safetensors")[:8])[0]
        spoilt, what = some_bytes(_content(ASSETS / f"{name}.safetensors")[:head], rng)
        data = spoilt + _content(ASSETS / f"{name}.safetensors")[head:]
    return _weights(name, data, what, folder)


def checkpoint_kind(rng: np.random.Generator, folder: Path) -> Attempt:
    """Weights whose document says something else, or that are handed in for others."""
    name = str(rng.choice(WEIGHTS))
    data = _content(ASSETS / f"{name}.safetensors")
    if rng.random() < 0.2:
        other = str(rng.choice([one for one in WEIGHTS if one != name]))
        return _weights(name, _content(ASSETS / f"{other}.safetensors"), f"{other} handed in for {name}", folder)
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    metadata = json.loads(head["__metadata__"]["ecg_gym"])
    value, what = some_tree(metadata, rng)
    try:
        head["__metadata__"]["ecg_gym"] = json.dumps(value)
    except TypeError:  # not JSON at all
        head["__metadata__"]["ecg_gym"] = repr(value)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return _weights(name, struct.pack("<Q", len(text)) + text + data[8 + size :], what, folder)


def _weights(name: str, data: bytes, what: str, folder: Path) -> Attempt:
    path = folder / f"{name}.safetensors"
    path.write_bytes(data)
    if name == "world_model":  # a world model wants its codec beside it
        (folder / "vae.safetensors").write_bytes(_content(ASSETS / "vae.safetensors"))

    def use() -> None:
        if name == "vae":
            from ecg_gym.world_model.vae import VAE

            VAE.load(path)
        elif name == "risk":
            from ecg_gym.risk.classifier import Findings

            Findings.load(path)
        elif name == "student":
            from ecg_gym.world_model.student import load_student

            load_student(path, _teacher().forecaster, _teacher().sha256)
        else:
            from ecg_gym.world_model import WorldModel

            WorldModel.load(path)

    return Attempt(f"{name}: {what}", use)


@lru_cache(maxsize=1)
def _teacher() -> Any:
    from ecg_gym.world_model import WorldModel

    return WorldModel.load()


def _small() -> Any:
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        return nn.Linear(2, 2)


def presets(rng: np.random.Generator, folder: Path) -> Attempt:
    """A training preset that does not exist, or with a field of another kind."""
    from training import train_codec, train_denoiser, train_student
    from training import train_findings as risk
    from training.loop import start

    module = [risk, train_student, train_codec, train_denoiser][int(rng.integers(4))]
    if rng.random() < 0.5:
        name, device = (odd(rng) if rng.random() < 0.5 else good for good in ("tiny", None))
        return Attempt(
            f"{module.__name__} preset {name!r} on {device!r}"[:120], lambda: module.preset_named(name, device)
        )
    fields = (
        "steps",
        "learning_rate",
        "warmup",
        "clip",
        "ema_decay",
        "seed",
        "device",
        "save_every",
        "betas",
        "final_fraction",
    )
    field, value, network = str(rng.choice(fields)), odd(rng), _small()

    def use() -> None:
        start(network, replace(module.preset_named("tiny").loop, **{field: value}))

    return Attempt(f"{module.__name__} loop.{field} = {value!r}"[:120], use)


def strips(rng: np.random.Generator, folder: Path) -> Attempt:
    """An ``ECG`` out of arrays of any shape, kind and content, measured."""
    from ecg_gym.core import ECG
    from ecg_gym.waveform import measure, to_model_grid

    shape = tuple(int(n) for n in rng.choice([0, 1, 2, 8, 12, 100, 1024], size=int(rng.integers(0, 4))))
    shape = (12, int(rng.choice([0, 1, 50, 500, 1024, 5000]))) if rng.random() < 0.6 else shape
    signal = rng.normal(size=shape) * float(rng.choice([0.0, 1e-6, 1.0, 1e6]))
    if signal.size and rng.random() < 0.5:
        signal.flat[rng.integers(signal.size, size=3)] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
    rate = odd(rng) if rng.random() < 0.3 else float(rng.choice([1e-3, 50, 100, 102.4, 500, 1000, 1e9]))
    kind = str(rng.choice(["float64", "int16", "object", "str", "complex128"], p=[0.7, 0.1, 0.1, 0.05, 0.05]))
    with np.errstate(all="ignore"):
        array = np.nan_to_num(signal).astype(kind) if kind in ("int16", "complex128") else signal.astype(kind)

    def use() -> None:
        strip = ECG(array, rate)
        measure(strip)
        to_model_grid(strip)

    return Attempt(f"{shape} {kind} at {rate!r} Hz"[:120], use)


@lru_cache(maxsize=1)
def _run_files() -> dict[str, bytes]:
    """The files of a tiny finished run."""
    import tempfile

    from training import loop

    with tempfile.TemporaryDirectory() as folder:
        config = loop.LoopConfig(steps=4, warmup=1, save_every=2)
        state = loop.start(_small(), config)
        loop.save_state(state, folder)
        (Path(folder) / loop.LOSSES).write_text("".join(json.dumps({"step": i, "loss": 0.5}) + "\n" for i in range(4)))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def run_folder(rng: np.random.Generator, folder: Path) -> Attempt:
    """A folder of a training run with a file that is damaged, resumed."""
    from training import loop

    files = dict(_run_files())
    name = str(rng.choice(list(files)))
    files[name], what = some_bytes(files[name], rng)
    for called, content in files.items():
        (folder / called).write_bytes(content)
    config = loop.LoopConfig(steps=4, warmup=1, save_every=2)
    network = _small()

    def use() -> None:
        loop.losses(folder)
        loop.resume(network, config, folder)

    return Attempt(f"{name}: {what}", use)


FAMILIES: dict[str, Family] = {
    "record header": record_header,
    "record signal": record_signal,
    "formulary row": drug,
    "scenario row": scenario,
    "protocol text": protocol_text,
    "protocol entry": protocol_tree,
    "patient": patient,
    "doses": doses,
    "reset options": options,
    "action": action,
    "vector action": vector_action,
    "env arguments": env_arguments,
    "checkpoint bytes": checkpoint_bytes,
    "checkpoint document": checkpoint_kind,
    "training preset": presets,
    "strip": strips,
    "run folder": run_folder,
}
