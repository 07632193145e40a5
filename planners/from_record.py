"""From a record to a ranked plan: everything that can be refused is refused in ``prepare``, before any work.

prepared = prepare(Path("records/0001"), patient_words="age=71,sex=F")
plan = run(prepared, k=16, risk_aversion=0.6, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.core import Administration, Patient, State, Treatment, World
from ecg_gym.datasets import Record, read_record
from planners.facts import Facts, facts_of_record
from planners.parsing import parse_candidates, parse_given, parse_patient

if TYPE_CHECKING:
    from ecg_gym.foreign.judges import Judge
    from ecg_gym.llm import ChatClient
    from ecg_gym.risk import RiskModel
    from ecg_gym.rollout import RiskFunction
    from planners import Plan


@dataclass(frozen=True)
class Prepared:
    """A record that passed the entrance, and all that a plan needs."""

    record: Record
    patient: Patient
    doses: tuple[Administration, ...]
    candidates: tuple[Treatment, ...]
    world: World
    risk: RiskModel
    state: State  # a batch of one, as the world sees the record
    facts: Facts  # what was measured on the record itself
    by_name: bool  # whether the candidates were asked for by name
    judge: Judge | None = None  # who gives a second opinion
    notes: tuple[str, ...] = ()  # of the proposer: what it proposed, what was refused, what it said


@dataclass(frozen=True)
class Proposing:
    """Who proposes the candidates, and how many are ranked."""

    words: str  # of ``proposer_named``
    k: int = 8
    client: ChatClient | None = None  # of a language model
    send_strip: bool = False
    seed: int = 0


def prepare(
    path: Path,
    *,
    scenario: str | None = None,
    patient_words: str | None = None,
    given_words: Sequence[str] = (),
    drugs_words: str | None = None,
    model_path: Path | None = None,
    world_name: str = "model",
    allow_missing_leads: bool = False,
    preset: str = "default",
    all_drugs: bool = False,
    fix_leads: bool = False,
    rate_hz: float | None = None,
    leads: Sequence[str] | None = None,
    judge_name: str | None = None,
    proposing: Proposing | None = None,
) -> Prepared:
    """Read, check and observe a record; nothing is written and nothing is sampled.

    ``scenario`` lends conditions, doses already given and the drugs on offer; explicit words win over it, and both
    win over the record's header. Drugs in ``drugs_words``, or the whole menu with ``all_drugs``, are candidates even
    without an indication. ``world_name`` is one of ``ecg_gym.envs.loading``; ``model_path`` and ``preset`` are for
    ``"model"`` only. ``fix_leads``, ``rate_hz`` [Hz] and ``leads`` are ``read_record``'s. ``preset="paper"``
    samples as the paper does: 1,000 ancestral steps. ``judge_name`` is an imported network that gives a second opinion.
    With ``proposing`` the candidates are what a proposer proposes and the rules let through.

    Raises ValueError or FileNotFoundError with a three-part message for everything a user can get wrong.
    """
    from ecg_gym.envs.loading import load_world
    from ecg_gym.envs.scenarios import scenario_named
    from ecg_gym.foreign.judges import judge_named
    from ecg_gym.risk import RiskModel
    from ecg_gym.world_model import WorldModel
    from planners.proposers.named import check_name

    if all_drugs and drugs_words is not None:
        raise ValueError("--all-drugs and --drugs were both given; expected one of them; leave one out")
    if proposing is not None and (all_drugs or drugs_words is not None):
        raise ValueError("--proposer was given with --drugs or --all-drugs; expected one of them; leave one out")
    if world_name != "model" and (model_path is not None or preset != "default"):
        raise ValueError(
            f"--world {world_name} was given with --model or --paper; expected --world model with them; leave one out"
        )
    if proposing is not None:
        check_name(proposing.words, proposing.client is not None)
    judge = None if judge_name is None else judge_named(judge_name)
    record = read_record(
        path, allow_missing_leads=allow_missing_leads, fix_leads=fix_leads, rate_hz=rate_hz, leads=leads
    )
    patient, drugs = record.patient, drugs_words
    doses: tuple[Administration, ...] = ()
    if scenario is not None:
        patient, doses, offered = scenario_named(scenario).lend(patient)
        drugs = drugs if drugs is not None or all_drugs else offered
    if patient_words is not None:
        patient = parse_patient(patient_words, patient)
    doses = tuple(sorted((*doses, *parse_given(given_words, patient))))
    candidates = parse_candidates(drugs, patient)
    sampler = "ddpm" if preset == "paper" else None
    world = load_world(world_name) if world_name != "model" else WorldModel.load(model_path, sampler=sampler)
    risk = RiskModel.load()
    state = world.observe(record.ecg, patient, doses)
    facts = facts_of_record(record.ecg, patient, state, risk, world)
    notes: tuple[str, ...] = ()
    by_name = all_drugs or drugs_words is not None
    if proposing is not None:
        candidates, notes = propose(proposing, world, risk, state, facts)
    return Prepared(record, patient, doses, candidates, world, risk, state, facts, by_name, judge, notes)


def propose(
    proposing: Proposing, world: World, risk: RiskFunction, state: State, facts: Facts
) -> tuple[tuple[Treatment, ...], tuple[str, ...]]:
    """What the proposer proposes and the rules let through, and what a reader of the plan should know of it."""
    from planners.proposers import proposed
    from planners.proposers.named import proposer_named

    proposer = proposer_named(
        proposing.words, risk, client=proposing.client, send_strip=proposing.send_strip, hours=float(world.dt_hours)
    )
    result = proposed(
        proposer, state, proposing.k, np.random.default_rng(proposing.seed), intervals=facts.intervals,
        findings=facts.findings,
    )  # fmt: skip
    notes = [*result.sentences(proposing.words.partition(":")[0])]
    notes += [f'The model on {q.proposal}: "{q.why}"' for q in getattr(proposer, "quotations", ())]
    if slips := getattr(proposer, "slips", None):
        notes.append(f"Slips of the model: {', '.join(f'{word} {n}' for word, n in slips.items())}.")
    return result.treatments, tuple(notes)


def run(
    prepared: Prepared,
    *,
    k: int = 16,
    risk_aversion: float = 0.6,
    measure: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """The advice for a prepared record: ``k`` post-dose ECGs per candidate under common random numbers."""
    from planners.advice import advise

    return advise(
        prepared.world,
        prepared.state,
        prepared.candidates,
        prepared.risk,
        facts=prepared.facts,
        by_name=prepared.by_name,
        remarks=(*prepared.record.remarks, *prepared.notes),
        k=k,
        risk_aversion=risk_aversion,
        measure=measure,
        seed=seed,
        progress=progress,
        record=prepared.record.name,
        judge=prepared.judge,
    )
