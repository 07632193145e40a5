"""``ecg-gym``: plan for a record, show the demo, train each learned thing, run each study.

What the user gets wrong ends with exit code 2 and one message; tracebacks are for our own mistakes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training.cli.data import app as data_commands
from training.cli.endpoint import ChatModel, Endpoint, Remote, chat_client
from training.cli.evaluate import evaluate, leaderboard
from training.cli.leads import app as leads
from training.cli.options import Device, Json, Run, Together, Training, spread
from training.cli.show import play, report
from training.cli.study import app as studies
from training.cli.weights import app as weights
from training.console import SAY as _SAY
from training.console import (
    counting,
    entrance,
    following,
    note,
    refuse,
    research_only,
    results,
    writable,
)

if TYPE_CHECKING:
    from planners import Plan

app = typer.Typer(
    help="Drug intervention on the electrocardiogram. Research only, never bedside.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # as it is written: rich would take [s] and [ms] for styles
    pretty_exceptions_enable=False,
)
ASSETS = Path(getattr(find_spec("ecg_gym"), "origin", "")).parent / "assets"  # loads nothing: --help needs none of it
SHIPPED = "shipped"  # as --start: the package's weights


Out = Annotated[Path | None, typer.Option(help="Folder for plan.png and plan.json; default out/<record name>.")]
Samples = Annotated[int, typer.Option(min=1, max=1024, help="Post-dose ECGs drawn per candidate (K).")]
RiskAversion = Annotated[float, typer.Option(min=0, max=100, help="Lambda in S = mean risk + lambda x SD.")]
MeasureName = Annotated[
    str | None,
    typer.Option("--measure", help="mean-variance[:LAMBDA] (default), cvar[:ALPHA], entropic[:THETA], p-qtcf[:MS]."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 is this one. The result does not depend on it.")]
Ray = Annotated[str | None, typer.Option(help="Address of a Ray cluster to work on, or `local`; needs ecg-gym[ray].")]
Preset = Annotated[str, typer.Option(help="tiny (a minute), default (shipped; two cores), paper (a GPU's work).")]
Start = Annotated[
    Path | None,
    typer.Option(
        help="Weights to begin with, or `shipped` (--preset continued, or wide: 32 channels); default random."
    ),
]
TrialFolder = Annotated[
    Path | None,
    typer.Option(
        "--trials", help="Folder of shards: virtual ones are made if missing (default OUT/trials), real ones tune."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of WFDB records (its folders ptbxl_100hz, ludb ... if there); else virtual ones only."),
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

train = typer.Typer(
    help="Train one learned thing; stop it any time, the same command goes on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(train, name="train")
app.add_typer(studies, name="study")
app.add_typer(leads, name="leads")
app.add_typer(data_commands, name="data")
app.add_typer(leaderboard, name="leaderboard")
app.command()(play)
app.command()(report)
app.command()(evaluate)
app.add_typer(weights, name="weights")


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
    given: Annotated[
        list[str] | None, typer.Option(help="Taken before: 'dofetilide 0.5 mg PO @ -2h'; repeatable.")
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
            given_words=given or (),
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


FEW_SHARDS = 4  # so many are made before other processes would have started
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


@train.command("vae")
@spread
def train_vae(
    *,
    preset: Preset = "default",
    data: Data = None,
    start: Start = None,
    training: Together,
) -> None:
    """The codec between strips and latents."""
    from training import train_codec as vae

    start = _shipped(start, vae.PACKAGED)

    def work(chosen: Any, folder: Path) -> Path:
        return vae.run(chosen, data, folder, start=start)

    _train("vae", vae, preset, training, "strips*.npz", {"start": start}, work)


def _shipped(start: Path | None, name: str = "") -> Path | None:
    """Where training begins: the package's own weights (the file ``name`` of them, if one is said) for "shipped"."""
    return ASSETS / name if start is not None and str(start) == SHIPPED else start


@train.command("world-model")
@spread
def train_world_model(
    *,
    preset: Preset = "default",
    trials: TrialFolder = None,
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    start: Start = None,
    strips: Annotated[
        Path | None, typer.Option(help="Real strips as `train vae --data` keeps them (strips_real.npz), to redraw.")
    ] = None,
    training: Together,
) -> None:
    """The world model on virtual trials, or tuned on real ones (`data shards`); the codec stays as it is."""
    from ecg_gym.real_trials.manifest import is_real

    start = _shipped(start)
    if trials is not None and is_real(trials):
        return _train_on_real(preset, trials, codec, start, training)
    from training import train_denoiser

    def work(chosen: Any, folder: Path) -> Path:
        shards = _trials(chosen, trials or folder / "trials")
        return train_denoiser.run(chosen, shards, folder, vae=codec, start=start, strips=strips)

    inputs = {"codec": codec or ASSETS / "vae.safetensors", "start": start, "strips": strips}
    pattern = (trials.absolute() if trials else Path("trials")) / "trials_*.npz"
    _train("world-model", train_denoiser, preset, training, pattern, inputs, work)


@train.command("policy")
def train_policy(
    algorithm: Annotated[str, typer.Argument(help="ppo, maskable-ppo, recurrent-ppo, dqn or qrdqn.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the policies; default runs/policy-ALGORITHM-WORLD.")
    ] = None,
    world: Annotated[str, typer.Option(help="truth (the virtual patient) or model (the learned world).")] = "truth",
    steps: Annotated[int, typer.Option(min=1, help="Steps of training per seed.")] = 500_000,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 5,
    envs: Annotated[int, typer.Option(min=1, help="Patients at once.")] = 64,
) -> None:
    """A learner on every scenario at once; stop it any time, the same command goes on."""
    from training.evaluation.benchmark import policy_training

    folder = out or Path("runs") / f"policy-{algorithm}-{world}"
    with entrance(), counting(f"steps of {seeds} trainings", steps * seeds) as advance:
        for path in policy_training.train_policy(
            algorithm, writable(folder), steps, seeds, world, envs, progress=advance
        ):
            _SAY.print(f"policy   {path}")


def _train_on_real(preset: str, trials: Path, codec: Path | None, start: Path | None, training: Training) -> None:
    """Fine-tune the package's weights, or those of ``start``, on shards of real ECGs."""
    from training import train_real_trials

    def work(chosen: Any, folder: Path) -> Path:
        return train_real_trials.run(chosen, trials, folder, start=start, vae=codec)

    inputs = {"codec": codec or ASSETS / "vae.safetensors", "start": start or ASSETS}
    training = replace(training, out=training.out or Path("runs") / f"real-trials-{preset}")
    _train("world-model", train_real_trials, preset, training, trials.absolute() / "trials_*.npz", inputs, work)


@train.command("risk")
@spread
def train_risk(
    *,
    preset: Preset = "default",
    data: Data = None,
    training: Together,
) -> None:
    """The classifier of the 17 findings, calibrated on people it never saw."""
    from training import train_findings

    def work(chosen: Any, folder: Path) -> Path:
        return train_findings.run(chosen, data, folder)

    _train("risk", train_findings, preset, training, "strips.npz", {}, work)


@train.command("student")
@spread
def train_student(
    *,
    preset: Preset = "default",
    teacher: Annotated[
        Path | None, typer.Option(help="World model to distil, a file or folder; default the package's.")
    ] = None,
    trials: TrialFolder = None,
    training: Together,
) -> None:
    """The few-step sampler: what the world model draws in many steps, learned for 2 and 4."""
    from training import train_denoiser
    from training import train_student as student

    def work(chosen: Any, folder: Path) -> Path:
        described = replace(train_denoiser.preset_named(preset), shards=chosen.shards)
        shards = _trials(described, trials or folder / "trials")
        return student.run(chosen, teacher, shards, folder)

    inputs = {"teacher": teacher or ASSETS / "world_model.safetensors"}
    pattern = (trials.absolute() if trials else Path("trials")) / "trials_*.npz"
    _train("student", student, preset, training, pattern, inputs, work)


@train.command("inverse")
@spread
def train_inverse(
    *,
    preset: Annotated[str, typer.Option(help="tiny (seconds) or default (half an hour on two cores).")] = "default",
    trials: Annotated[Path | None, typer.Option(help="Folder of shards, made if missing; default OUT/trials.")] = None,
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    workers: Workers = 0,
    training: Training,
) -> None:
    """Inverse dynamics on virtual trials: which drug was given between two strips; a proposer."""
    from ecg_gym.executor import executor
    from training import train_inverse as inverse

    def work(chosen: Any, folder: Path) -> Path:
        return inverse.run(chosen, trials or folder / "trials", folder, codec, executor(workers))

    inputs = {"codec": codec or ASSETS / "vae.safetensors"}
    pattern = (trials.absolute() if trials else Path("trials")) / "trials_*.npz"
    _train("inverse", inverse, preset, training, pattern, inputs, work)


@train.command("proposer")
@spread
def train_proposer(
    *,
    preset: Annotated[
        str, typer.Option(help="tiny (a minute) or default (five CPU hours, mostly ranking).")
    ] = "default",
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    workers: Workers = 0,
    training: Training,
) -> None:
    """The proposer that looks at latents and the patient's card, on the oracle's rankings in the virtual patient."""
    from ecg_gym.executor import executor
    from training import train_proposer as proposer

    def work(chosen: Any, folder: Path) -> Path:
        return proposer.run(chosen, folder, codec, executor(workers))

    inputs = {"codec": codec or ASSETS / "vae.safetensors"}
    _train("proposer", proposer, preset, training, "rankings/rankings_*.npz", inputs, work)


@train.command("baseline")
@spread
def train_baseline(
    *,
    name: Annotated[
        str, typer.Argument(help="wgan, stylegan, cecg-gan, tts-cgan, ode-gan, diffusets, diffusets-before or dadm.")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of shards of virtual trials (`ecg-gym train world-model` makes them).")
    ],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimiser; default 6000.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="CPU minutes; the schedule of the steps is shortened to them.")
    ] = None,
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    training: Training,
) -> None:
    """A rival generator, on the pairs that our denoiser learns from; for `ecg-gym study baselines`."""
    from training import train_baseline as module
    from training.rivals.catalogue import preset_named

    def work(chosen: Any, folder: Path) -> Path:
        return module.run(chosen, data, folder, codec)

    presets = SimpleNamespace(preset_named=partial(preset_named, steps=steps, minutes=minutes))
    inputs = {"codec": codec or ASSETS / "vae.safetensors"}
    _train("baseline", presets, name, training, data.absolute() / "trials_*.npz", inputs, work)


@train.command("all")
def train_everything(
    preset: Annotated[str, typer.Option(help="brief (ten minutes), default (two hours on two cores), gpu, tiny.")] = (
        "default"
    ),
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Of wall clock; default the preset's.")] = None,
    device: Device = None,
    data: Data = None,
    out: Run = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that make trials; default every core.")] = None,
) -> None:
    """Trials, codec, interval model, denoiser, student, findings; calibrated and judged, in time; it resumes."""
    from training import train_all
    from training.run_lock import locked

    with entrance():
        chosen = train_all.preset_named(preset, device)
        folder = writable(out or Path("runs") / f"all-{preset}")
    with locked(folder):
        paths = train_all.run(chosen, folder, minutes, data=data, workers=workers)
    _SAY.print("\n".join(f"weights  {path}" for path in paths.values()))


def _train(
    kind: str, module: Any, preset: str, training: Training, data: str | Path, inputs: Mapping[str, Path | None],
    work: Callable[[Any, Path], Path],
) -> None:  # fmt: skip
    """Every training command: the preset as the options change it, a folder, a record, the work, and where it lies.

    ``data`` is the pattern of what is learned from, in the folder unless absolute.
    """
    from training import distributed
    from training.loop import AnotherRun
    from training.run_lock import locked
    from training.run_record import recorded

    devices = training.devices if isinstance(training, Together) else 1
    with entrance():
        chosen = module.preset_named(preset, training.device)
        distributed.check(chosen.loop.device, devices)
        chosen = replace(chosen, loop=replace(chosen.loop, devices=devices))
        chosen = chosen if training.seed is None else _seeded(chosen, training.seed)
        folder = writable(training.out or Path("runs") / f"{kind}-{preset}")
        files = {name: _there(name, path) for name, path in inputs.items() if path is not None}
    only = locked(folder) if distributed.is_first() else nullcontext()
    try:
        with (
            only,
            recorded(folder, kind, preset, chosen, data=folder / data, inputs=files, resume=training.resume) as done,
        ):
            path = work(chosen, folder)
            done(path)
    except AnotherRun as error:
        refuse(error)
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and "; expected" not in str(error):
            raise  # ours: it keeps its traceback
        refuse(error)
    except distributed.WorkerDone:
        return
    _SAY.print(f"weights  {path}\nrecord   {folder / 'run.json'}")


def _seeded(preset: Any, seed: int) -> Any:
    """The preset with this seed in its loop and in those of its earlier stages; data keep theirs."""
    stages = {f.name: getattr(preset, f.name) for f in fields(preset) if hasattr(getattr(preset, f.name), "loop")}
    seeded = {name: _seeded(stage, seed) for name, stage in stages.items()}
    return replace(preset, loop=replace(preset.loop, seed=seed), **seeded)


def _there(name: str, path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"--{name} is {path}; expected a file or folder of weights; mend the path")
    return path


def _trials(preset: Any, folder: Path) -> Path:
    """The folder, after making the preset's shards of virtual trials that are not in it yet, with a bar."""
    from ecg_gym.datasets.splits import shard_name
    from ecg_gym.datasets.transitions import make_shards
    from ecg_gym.executor import executor
    from training.train_denoiser import make_trials

    missing = [shard for shard in range(preset.shards) if not (folder / shard_name(shard)).is_file()]
    with counting("shards of virtual trials", len(missing)) as advance:
        hands = executor((os.cpu_count() or 1) if len(missing) > FEW_SHARDS else 0)
        for _ in make_shards(folder, missing, preset.design, workers=hands):
            advance()
    make_trials(preset, folder)  # nothing is left to make; says who is in which split
    return folder
