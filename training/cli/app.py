"""``ecg-gym``: plan for a record, show the demo, train each learned thing, run each study.

What the user gets wrong ends with exit code 2 and one message; tracebacks are for our own mistakes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.cli.deferred import RootGroup
from training.cli.endpoint import ChatModel, Endpoint, Remote, chat_client
from training.cli.evaluate import evaluate
from training.cli.options import ASSETS, Json, Ray, Seed, Workers
from training.cli.show import play, report
from training.console import SAY as _SAY
from training.console import (
    entrance,
    following,
    note,
    research_only,
    results,
    writable,
)

if TYPE_CHECKING:
    from planners import Plan

app = typer.Typer(
    cls=RootGroup,
    help="Drug intervention on the electrocardiogram. Research only, never bedside.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # as it is written: rich would take [s] and [ms] for styles
    pretty_exceptions_enable=False,
)


Out = Annotated[Path | None, typer.Option(help="Folder for plan.png and plan.json; default out/<record name>.")]
Samples = Annotated[int, typer.Option(min=1, max=1024, help="Post-dose ECGs drawn per candidate (K).")]
RiskAversion = Annotated[float, typer.Option(min=0, max=100, help="Lambda in S = mean risk + lambda x SD.")]
MeasureName = Annotated[
    str | None,
    typer.Option("--measure", help="mean-variance[:LAMBDA] (default), cvar[:ALPHA], entropic[:THETA], p-qtcf[:MS]."),
]
AllDrugs = Annotated[bool, typer.Option("--all-drugs", help="The whole menu, with or without an indication.")]
FixLeads = Annotated[
    bool, typer.Option("--fix-leads", help="Put right leads that contradict each other, where one explanation is left.")
]
Rate = Annotated[float | None, typer.Option(help="Sampling rate [Hz] of a CSV or NumPy file that has none.")]
LeadNames = Annotated[str | None, typer.Option(help="Names of the columns of a file without: I,II,III,aVR,...")]
SecondOpinion = Annotated[
    str | None,
    typer.Option(help="Imported network that judges the five best once more: ecgfounder, ecg-fm, or a file."),
]
ProposerName = Annotated[
    str | None,
    typer.Option(
        "--proposer", help="Who proposes candidates: enumeration, guideline, inverse:FILE, learned:FILE, llm."
    ),
]
Proposals = Annotated[int, typer.Option(min=1, help="Proposals that are ranked, watching not counted.")]

app.command()(play)
app.command()(report)
app.command()(evaluate)


def _version(value: bool) -> None:
    if value:
        import ecg_gym

        sys.stdout.write(f"ecg-gym {ecg_gym.__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Drug intervention on the electrocardiogram. Research only, never bedside."""


@app.command()
def plan(
    record: Annotated[
        Path, typer.Argument(help="12 leads, 8 s or longer: WFDB, EDF, DICOM (.dcm), HL7 aECG (.xml), CSV, NumPy.")
    ],
    scenario: Annotated[
        str | None, typer.Option(help="Clinical situation that lends conditions, doses and drugs.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="age=71,sex=F,K=3.1,conditions=... or a YAML/JSON file.")] = None,
    doses: Annotated[
        list[str] | None, typer.Option("--given", help="Taken before: 'dofetilide 0.5 mg PO @ -2h'; repeatable.")
    ] = None,
    drugs: Annotated[
        str | None, typer.Option(help="Candidates by name, comma separated; default what has an indication.")
    ] = None,
    all_drugs: AllDrugs = False,
    samples: Samples = 16,
    risk_aversion: RiskAversion = 0.6,
    measure: MeasureName = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
    paper: Annotated[bool, typer.Option("--paper", help="As in the paper: K = 3, 1,000 steps (slow).")] = False,
    model: Annotated[Path | None, typer.Option(help="Folder of weights; default the ones in the package.")] = None,
    world: Annotated[str, typer.Option(help="model, oracle (the virtual patient) or tissue: who imagines.")] = "model",
    allow_missing_leads: Annotated[bool, typer.Option(help="Mask flat or absent leads instead of refusing.")] = False,
    fix_leads: FixLeads = False,
    rate: Rate = None,
    leads: LeadNames = None,
    second_opinion: SecondOpinion = None,
    proposer: ProposerName = None,
    proposals: Proposals = 8,
    endpoint: Endpoint = None,
    chat_model: ChatModel = "default",
    remote: Remote = False,
    send_strip: Annotated[bool, typer.Option("--send-strip", help="Show the strip to --proposer llm, as PNG.")] = False,
    recommend: Annotated[
        bool, typer.Option("--recommend", help="Let the model at --endpoint choose among the ranked, last of all.")
    ] = False,
) -> None:
    """Rank the treatments that have an indication and that the clinical mask allows, for a 12-lead record."""
    from planners.from_record import Proposing, prepare, run

    k = 3 if paper else samples
    with entrance():
        _measure(measure)
        folder = writable(out or Path("out") / record.name)
        asks = endpoint is not None or recommend
        client = chat_client(endpoint, chat_model, remote, folder) if asks else None
        prepared = prepare(
            record,
            scenario=scenario,
            patient_words=patient,
            given_words=doses or (),
            drugs_words=drugs,
            model_path=model,
            world_name=world,
            allow_missing_leads=allow_missing_leads,
            preset="paper" if paper else "default",
            all_drugs=all_drugs,
            fix_leads=fix_leads,
            rate_hz=rate,
            leads=None if leads is None else [name.strip() for name in leads.split(",")],
            judge_name=second_opinion,
            proposing=None if proposer is None else Proposing(proposer, proposals, client, send_strip, seed),
        )
    for remark in prepared.record.remarks:
        note(remark)
    with following("candidates") as follow:
        result = run(prepared, k=k, risk_aversion=risk_aversion, measure=measure, seed=seed, progress=follow)
    if recommend and client is not None:
        from planners.chat_choice import choose

        result = replace(result, choice=choose(client, result))
    figure_path, json_path = _save(result, folder)
    if as_json:
        sys.stdout.write(json.dumps(result.to_json_dict(), indent=2) + "\n")
        return
    from planners.report.table import plan_table

    results().print(plan_table(result))
    _SAY.print(f"picture  {figure_path}\nnumbers  {json_path}")
    research_only()


def _measure(words: str | None) -> None:
    """ValueError for a measure that nobody knows, before any work."""
    from planners import measure_named

    if words is not None:
        measure_named(words)


def _save(result: Plan, folder: Path) -> tuple[Path, Path]:
    from ecg_gym.io import atomic_write, write_text
    from planners.report.table import plan_figure

    figure_path, json_path = folder / "plan.png", folder / "plan.json"
    write_text(json_path, json.dumps(result.to_json_dict(), indent=2) + "\n")  # numbers before pictures
    with atomic_write(figure_path) as aside:
        plan_figure(result).savefig(aside, dpi=150, format="png")
    return figure_path, json_path


DEMO = ASSETS / "default_patient"


@app.command()
def demo(out: Out = Path("out/demo"), samples: Samples = 16, seed: Seed = 0) -> None:
    """The main job on the virtual patient that ships with the package: rank treatments, save the picture."""
    from training.cli.default_patient import SCENARIO

    plan(record=DEMO, scenario=SCENARIO, patient=str(DEMO.with_suffix(".yaml")), out=out, samples=samples, seed=seed)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder of the shards; the same command resumes it.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Virtual ECGs.")] = 1000,
    seed: Seed = 0,
    workers: Workers = 2,
    ray: Ray = None,
    rhythm: Annotated[str | None, typer.Option(help="One rhythm only; default the whole population's.")] = None,
    healthy: Annotated[bool, typer.Option("--healthy", help="Trial volunteers only.")] = False,
    treated: Annotated[float, typer.Option(min=0, max=1, help="Share of people with drugs on board.")] = 0.5,
    rate_hz: Annotated[float, typer.Option(help="Sampling rate [Hz].")] = 500.0,
    seconds: Annotated[float, typer.Option(help="Length of a strip [s].")] = 10.0,
) -> None:
    """Virtual 12-lead ECGs with their truth: beats, fiducials, intervals, findings, concentrations, hazards."""
    from ecg_gym.datasets import simulated
    from ecg_gym.executor import executor
    from ecg_gym.virtual_patient.rhythm_table import rhythms

    with entrance():
        writable(out)
        if rhythm is not None and rhythm not in rhythms():
            raise ValueError(f"rhythm is {rhythm!r}; expected one of {', '.join(rhythms())}; choose one of them")
        settings = simulated.Simulation(seed, rate_hz, seconds, healthy, rhythm, treated)
        steps = simulated.simulate(out, n, settings, executor(workers, ray))
        next(steps)  # what is there already; refuses what cannot go on
    with following("ECGs", n) as follow:
        for there, _ in steps:
            follow(there, n)
    _SAY.print(
        f"shards  {out}/ecgs_*.npz (read with ecg_gym.datasets.read_simulated)\nlabels  {out}/{simulated.LABELS}"
    )


@app.command()
def trial(
    protocol: Annotated[str, typer.Argument(help="YAML file, or the name of a protocol in the package: ecgrdvq, ...")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for records, ecgs.csv, summary and figure; it resumes. Default out/NAME."),
    ] = None,
    n: Annotated[int | None, typer.Option(min=1, help="People; default the protocol's own number.")] = None,
    seed: Seed = 0,
    waveforms: Annotated[bool, typer.Option(help="Write the WFDB records too.")] = True,
    workers: Workers = 0,
    ray: Ray = None,
    as_json: Json = False,
) -> None:
    """A virtual trial: records, a table of every ECG, and placebo-corrected effects measured beside true."""
    from ecg_gym.clinical_trial import load_protocol, run_trial
    from ecg_gym.clinical_trial.report import effects_table, save_figure
    from ecg_gym.executor import executor

    with entrance():
        parsed = load_protocol(protocol)
        folder = writable(out or Path("out") / parsed.name)
        with following("people", n or parsed.subjects) as follow:
            result = run_trial(parsed, n, seed, folder, waveforms, progress=follow, workers=executor(workers, ray))
    picture = save_figure(result, folder / "effects.png")
    if as_json:
        sys.stdout.write(json.dumps(result.to_json_dict(), indent=2, allow_nan=False) + "\n")
        return
    for remark in parsed.remarks:
        note(remark)
    results().print(effects_table(result))
    _SAY.print(f"table    {folder / 'ecgs.csv'}\nsummary  {folder / 'summary.json'}\npicture  {picture}")
    research_only()
