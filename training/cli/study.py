"""``ecg-gym study ...``: each study prints a table, or with ``--json`` one document on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from training.cli import real_trials as real
from training.cli.options import Chat, Json, Model, Out, Patients, Quick, Report, Seeds, Sized, spread
from training.console import SAY, counting, entrance, following, progress_bar, results
from training.evaluation.registry import STUDIES, Study

app = typer.Typer(
    help="Measure something and print it beside its trivial baselines.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
RivalFolders = Annotated[
    list[Path] | None,
    typer.Option("--rivals", help="Folder of `train baseline`, or one of such folders; repeatable."),
]
app.command("real-effects")(real.real_effects)
app.command("leave-one-out")(real.leave_one_out)


@app.command()
def delineation(
    records: Annotated[
        Path | None,
        typer.Option(help="Folder of WFDB records with marks (LUDB's or QTDB's layout); default: virtual patients."),
    ] = None,
    strips: Annotated[int, typer.Option(min=1, help="Virtual strips per rhythm, conduction and noise level.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the virtual strips.")] = 0,
    methods: Annotated[str, typer.Option(help="Some of global,manual,lead-II,dwt,cwt,peak,prominence.")] = "",
    rates: Annotated[str, typer.Option(help="Sampling rates to measure at [Hz], comma separated.")] = "500,102.4",
    quick: Annotated[
        bool, typer.Option("--quick", help="Within a minute: few records or strips, no slow peer.")
    ] = False,
    as_json: Json = False,
) -> None:
    """PR, QRS, QT and Tpeak-Tend against cardiologists' marks or virtual truth: bias, SD, MAE and failures [ms]."""
    from training.evaluation.virtual_patient import delineation as module

    with entrance():
        usual = module.QUICK_METHODS if quick else module.METHODS
        delineators = [module.method_named(name.strip()) for name in methods.split(",")] if methods else usual
        rates_hz = [float(rate) for rate in rates.split(",")]
        if records is not None:
            document = module.study(records, delineators, rates_hz, limit=module.QUICK_RECORDS if quick else None)
        else:
            each = min(strips, module.QUICK_STRIPS) if quick else strips
            with counting("strips", module.virtual_size(each)) as advance:
                document = module.virtual_study(each, seed, delineators, rates_hz, advance)
    _show(document, document["summary"], as_json)
    if not as_json:
        SAY.print("every rhythm, conduction, noise level or group of records: --json, under rows")


@app.command()
def codec(
    data: Annotated[Path | None, typer.Option(help="Folder of real records; without it virtual strips only.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of a `train vae` run, to judge by its strips and split.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Codec to judge; default the package's.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few strips: within a minute on two cores.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of JSON, CSV and figure; default out/study-codec.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """What the codec keeps of strips it was not trained on, beside trivial codes of the same size."""
    from ecg_gym.checkpoint import ASSETS
    from ecg_gym.world_model.vae import VAE
    from training.evaluation.result import finish
    from training.evaluation.world_model import codec as module

    with entrance():
        path = weights or ASSETS / "vae.safetensors"
        vae = VAE.load(path)
        sets = module.held_out_strips(data, run, module.QUICK if quick else module.Size())
    document = module.study(path, sets, seed)
    finish(document, out, as_json, lambda _: module.figure(vae, sets, seed=seed))


@app.command()
@spread
def intervals(
    *,
    model: Model = None,
    sized: Sized,
    report: Report,
    people: real.RealPeople,
) -> None:
    """Group effects of every drug, held-out doses and pairs, measured from drawn ECGs, beside the virtual truth."""
    from training.evaluation.world_model import intervals as module

    if people.trials is not None:
        from training.evaluation.real_trials import intervals as on_people

        return real.on_real(on_people, model, people, sized.samples, report)

    _beside_truth(module, model, sized, report)


@app.command()
@spread
def calibration(
    *,
    model: Model = None,
    sized: Sized,
    report: Report,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit the bands anew on validation patients and keep them beside the weights.")
    ] = False,
    people: real.RealPeople,
) -> None:
    """Spread, coverage of 90 % bands (raw, and corrected on validation patients), and CRPS beside trivial forecasts."""
    from training.evaluation.world_model import calibration as module

    if people.trials is not None:
        from training.evaluation.real_trials import calibration as on_people

        return real.on_real(on_people, model, people, sized.samples, report)

    _beside_truth(module, model, sized, report, lambda world: module.load_or_calibrate(world, model, fit))


@app.command()
@spread
def baselines(
    *,
    rivals: RivalFolders = None,
    data: Annotated[
        Path | None, typer.Option(help="Shards that the rivals learned from, for the nearest training strip.")
    ] = None,
    model: Model = None,
    sized: Sized,
    chat: Chat,
    report: Report,
) -> None:
    """Our model beside rival generators trained alike, the majority class, pharmacology and a copy.

    With --endpoint a language model says the intervals, zero-shot; its exchanges are kept beside the numbers.
    """
    from ecg_gym.virtual_patient import VirtualPatient
    from ecg_gym.world_model import WorldModel
    from training.evaluation.world_model import baselines as module
    from training.rivals.chat import ChatWorld

    size = sized.of(module, report.quick)
    with entrance():
        world = WorldModel.load(model)
        table = module.load_rivals(list(rivals or ()), world, data)
        folder = report.out or Path("out") / "study-baselines"
        if chat.endpoint is not None:
            table = module.with_chat(table, ChatWorld(world, chat.client(folder)))
    worlds = sum(len(columns) for columns in table.worlds.values())
    with counting("questions", module.answers_of(size, report.quick, worlds)) as advance:
        document = module.study(world, VirtualPatient(), size, report.quick, advance, table)
    report.finish(document, module.figure, module.summary(document), folder)


@app.command()
@spread
def realism(
    *,
    rivals: RivalFolders = None,
    model: Model = None,
    patients: Patients = None,
    seeds: Seeds = 1,
    report: Report,
) -> None:
    """Do drawn strips look real: a classifier that tells them apart, Fréchet distance, precision, recall."""
    from ecg_gym.virtual_patient import VirtualPatient
    from ecg_gym.world_model import WorldModel
    from training.evaluation import result
    from training.evaluation.world_model import realism as module
    from training.evaluation.world_model.baselines import load_rivals

    size = result.size_of(module.USUAL, module.SMALL, report.quick, patients, None, seeds)
    with entrance():
        world = WorldModel.load(model)
        table = load_rivals(list(rivals or ()), world, None)
    worlds = sum(len(columns) for columns in table.worlds.values())
    with counting("strips", module.answers_of(size, report.quick, worlds)) as advance:
        document = module.study(world, VirtualPatient(), size, report.quick, advance, table)
    report.finish(document, module.figure, module.summary(document))


@app.command("ablate-epk")
@spread
def ablate_epk(
    *,
    model: Annotated[
        list[Path] | None, typer.Option(help="Weights; give it several times to set trainings beside each other.")
    ] = None,
    sized: Sized,
    report: Report,
) -> None:
    """The physiological prior at 0, 0.25 and 1 of its strength: spread, CRPS and whether the condition is followed."""
    from ecg_gym.virtual_patient import VirtualPatient
    from ecg_gym.world_model import WorldModel
    from training.evaluation.world_model import ablate_epk as module

    size = sized.of(module, report.quick)
    with entrance():
        worlds = {str(path): WorldModel.load(path) for path in model or ()} or {"package": WorldModel.load()}
    with counting("questions", module.answers_of(size, report.quick, len(worlds))) as advance:
        document = module.study(worlds, VirtualPatient(), size, report.quick, advance)
    report.finish(document, module.figure)


@app.command()
def pharmacology(as_json: Json = False) -> None:
    """Published effects of drugs and pairs beside what the pharmacology says, typical person, no waveforms."""
    from training.evaluation.virtual_patient import pharmacology as module

    document = module.study()
    _show(document, [{key: row[key] for key in module.SHOWN} for row in document["rows"]], as_json)
    if not as_json:
        m = document["metrics"]
        SAY.print(
            f"inside: {m['inside']} of {m['of']}, of those nothing was fitted to {m['inside_not_fitted']} of "
            f"{m['of_not_fitted']}; saying 'no effect' would be {m['no_effect_inside']} and "
            f"{m['no_effect_inside_not_fitted']}"
        )


@app.command("drug-effects")
def drug_effects(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the ECGRDVQ tables; default ecgrdvq in $ECG_GYM_DATA, data, ...")
    ] = None,
    world: Annotated[str, typer.Option(help="Only `virtual` so far.")] = "virtual",
    seeds: Annotated[int, typer.Option(min=1, help="How often the trial's people are drawn.")] = 3,
    figure: Annotated[Path | None, typer.Option(help="PNG of real and virtual time courses side by side.")] = None,
    as_json: Json = False,
) -> None:
    """The virtual trial beside the real one, measured from waveforms: effects, levels, placebo drift, scatter."""
    from training.evaluation.virtual_patient import drug_effects as module

    with entrance():
        if world != "virtual":
            raise ValueError(f"world is {world!r}; expected virtual; the learned world has its own study, forecast")
        with counting("people", module.PEOPLE * seeds) as advance:
            done = module.study(data or module.default_data(), seeds, advance)
        if figure:
            module.save_figure(done, figure)
    document = done.document
    if as_json:
        return _show(document, [], as_json)
    for title, rows in module.tables(document).items():
        _show({"study": f"{document['study']}: {title}"}, rows, as_json)
    SAY.print("\n".join(module.lines(document)))


@app.command()
def plans(
    scenarios: Annotated[str, typer.Option(help="Comma separated; default all.")] = "",
    patients: Annotated[int, typer.Option(min=2, help="Virtual people per scenario.")] = 8,
    model: Annotated[Path | None, typer.Option(help="Folder of weights; default the package's.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Futures per candidate (K), in either world.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """One decision in the learned world, judged in the virtual patient, beside watching, chance and the oracle."""
    from ecg_gym.envs.scenarios import load_scenarios, scenario_named
    from ecg_gym.world_model import WorldModel
    from training.evaluation.planning import plans as module

    with entrance():
        names = [scenario_named(name).name for name in scenarios.split(",")] if scenarios else list(load_scenarios())
        world = WorldModel.load(model)
    with counting("people", patients * len(names)) as advance:
        document = module.study(world, names, patients, samples, seed=seed, progress=advance)
    _show(document, document["rows"], as_json)


@app.command("scenarios")
def scenarios_(
    scenarios: Annotated[str, typer.Option(help="Comma separated; default all.")] = "",
    episodes: Annotated[int, typer.Option(min=2, help="Virtual patients per scenario.")] = 20,
    people: Annotated[int, typer.Option(min=0, help="Per scenario, to ask the learned world; 0 leaves it out.")] = 6,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is this one.")] = 2,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin no episode after so long; it resumes.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of rows.")] = Path("out/scenarios"),
    page: Annotated[Path | None, typer.Option(help="The cards; default OUT/scenarios.md.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two scenarios, two patients each.")] = False,
    as_json: Json = False,
) -> None:
    """What watching, chance, the guideline, a constant and a search in the truth reach; and the cards."""
    import shlex
    import time

    from ecg_gym.envs.scenarios import load_scenarios
    from ecg_gym.executor import executor
    from training.evaluation.scenarios import scenarios as module
    from training.evaluation.scenarios.scenarios_page import write

    command = shlex.join(["ecg-gym", *sys.argv[1:]])
    stop = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    with entrance():
        names = [name.strip() for name in scenarios.split(",") if name.strip()] or list(load_scenarios())
        some = [name for name in names if name in ("svt", "bradycardia")] or names[:2] if quick else names
        evaluation = module.evaluation_of(some, 2 if quick else episodes)
    with following("episodes") as follow:
        rows = module.play(evaluation, out, lambda: executor(workers, None), follow, lambda: time.monotonic() < stop)
    request: list[dict[str, Any]] = []
    if people:
        from ecg_gym.world_model import WorldModel

        request = module.signs(WorldModel.load(), some, 2 if quick else people)
    document = module.study(evaluation, rows, request)
    where = page or out / "scenarios.md"
    write(document, where, command)
    SAY.print(f"page     {where}")
    _show(document, module.summary(document), as_json)


@app.command()
def anchor(
    patients: Annotated[int | None, typer.Option(min=8, help="Held-out virtual patients, or real records.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many times everything is drawn anew: seeds 0, 1, ...")] = 1,
    records: Annotated[Path | None, typer.Option(help="Folder of WFDB records: what one strip alone tells.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute on two cores: few patients.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of JSON, CSV and figure; default out/study-anchor.")] = None,
    as_json: Json = False,
) -> None:
    """What McSharry's model knows of the next strip once it is told the intervals and the beats; no network."""
    from ecg_gym.virtual_patient import VirtualPatient
    from training.evaluation.result import finish
    from training.evaluation.world_model import anchor as module

    size = patients or (module.QUICK if quick else module.USUAL)
    with entrance():
        if records is not None:
            finish(module.real(records, size), out, as_json, None)
            return
        with counting("parts", 3) as advance:
            document = module.study(VirtualPatient(), size, range(seeds), advance)
    finish(document, out, as_json, lambda _: module.figure(VirtualPatient()))


@app.command("zero-dose")
def zero_dose(
    records: Annotated[Path, typer.Option(help="Folder of WFDB records of real people.")],
    model: Annotated[Path | None, typer.Option(help="Folder of weights; default the package's.")] = None,
    limit: Annotated[int, typer.Option(min=2, help="Records taken, at random.")] = 60,
    samples: Annotated[int, typer.Option(min=2, help="Futures per record.")] = 4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """What the learned world does to real strips when nothing is given; a perfect one would do nothing."""
    from ecg_gym.world_model import WorldModel
    from training.evaluation.world_model import zero_dose as module

    with entrance():
        world = WorldModel.load(model)
        with counting("draws", 2 * samples) as advance:
            document = module.study(world, records, limit, samples, seed, progress=advance)
    _show(document, document["rows"], as_json)


@app.command()
@spread
def stability(
    *,
    world: Annotated[
        str, typer.Option(help="model, oracle, a path to weights, or package.module:Name of a world of your own.")
    ] = "model",
    sized: Sized,
    steps: Annotated[int, typer.Option(min=2, help="Steps of a rollout.")] = 8,
    report: Report,
) -> None:
    """Anybody's world over many steps: horizon, drift, washout, order, twins, violations, spread against error."""
    from ecg_gym.envs.loading import load_world
    from training.evaluation.stability import study as module
    from training.evaluation.stability.figure import figure

    size = sized.of(module, report.quick)
    with entrance():
        model = load_world(world)
    with counting("strips", module.rows_of(size, steps)) as advance:
        document = module.study(model, size, steps=steps, progress=advance)
    report.finish(document, figure, module.summary(document))


@app.command()
@spread
def proposers(
    *,
    sized: Sized,
    k: Annotated[int, typer.Option("--k", min=1, help="Proposals that are ranked, watching not counted.")] = 8,
    inverse: Annotated[Path | None, typer.Option(help="Weights of `ecg-gym train inverse`.")] = None,
    learned: Annotated[Path | None, typer.Option(help="Weights of `ecg-gym train proposer`.")] = None,
    chat: Chat,
    report: Report,
) -> None:
    """Which proposer's k treatments hold the oracle's best: recall, regret, calls of the world saved, refusals.

    With --endpoint a language model proposes, and chooses among the ranked; its exchanges are kept beside the numbers.
    """
    from ecg_gym.risk import RiskModel
    from planners.proposers.named import proposer_named
    from training.evaluation.planning import proposers as module

    size = sized.of(module, report.quick)
    with entrance():
        risk = RiskModel.load()
        folder = report.out or Path("out") / "study-proposers"
        client = None if chat.endpoint is None else chat.client(folder)
        words = {"inverse": inverse and f"inverse:{inverse}", "learned": learned and f"learned:{learned}",
                 "llm": None if client is None else "llm"}  # fmt: skip
        table = {name: proposer_named(word, risk, client=client) for name, word in words.items() if word}
    with counting("people", size.patients * len(size.seeds) * len(module.scenarios_of(report.quick))) as advance:
        document = module.study(size, report.quick, table, k, client, advance, risk)
    report.finish(document, module.figure, module.summary(document))


@app.command("inverse-dynamics")
@spread
def inverse_dynamics(
    *,
    sized: Sized,
    weights: Annotated[Path | None, typer.Option(help="Of `ecg-gym train inverse`; default without the model.")] = None,
    report: Report,
) -> None:
    """Which drug was given between two strips, beside chance, pharmacology and a simulated ceiling."""
    from training.evaluation.planning import inverse_dynamics as module

    size = sized.of(module, report.quick)
    model = None
    with entrance():
        if weights is not None:
            from planners.proposers.inverse import InverseDynamics

            model = InverseDynamics.load(weights)
    with counting("people", size.patients * len(size.seeds)) as advance:
        document = module.study(size, model, progress=advance)
    report.finish(document, module.figure, module.summary(document))


@app.command()
@spread
def speed(report: Report) -> None:
    """Steps a second as ratios: without strips against CartPole, with strips against NeuroKit2 and single envs."""
    from training.evaluation.speed import engine as module

    size = report.of(module)
    with entrance(), counting("ratios", module.turns_of(size)) as advance:
        document = module.study(size, advance)
    report.finish(document)


@app.command()
def fidelity(
    quick: Quick = False,
    fit: Annotated[
        bool, typer.Option("--fit", help="Measure the errors of readings anew and write their table.")
    ] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Readings without strips beside those of strips: bias, SD, risk, and what policies earn in both."""
    from training.evaluation.result import finish
    from training.evaluation.virtual_patient import fidelity as module
    from training.evaluation.virtual_patient import reading_errors

    with entrance(), counting("states") as advance:
        if fit:
            reading_errors.save(reading_errors.fit(progress=advance))
        document = module.study(module.SMALL if quick else module.USUAL, advance)
    finish(document, out, as_json, None)


@app.command()
@spread
def task(
    *,
    patients: Annotated[int | None, typer.Option(min=4, help="Private patients of each scenario; default 200.")] = None,
    ppo_steps: Annotated[int | None, typer.Option(min=0, help="Steps of MaskablePPO; 0 leaves it out.")] = None,
    scenario: Annotated[list[str] | None, typer.Option(help="Only these scenarios; may be repeated.")] = None,
    report: Report,
) -> None:
    """Is it worth learning? Watching, chance, everything at once, constants and the book, a search and MaskablePPO.

    What was played is kept in the folder: stopped and begun again, it goes on.
    """
    from training.evaluation.task import study as module

    size = report.of(module)
    size = replace(size, patients=patients or size.patients)
    size = replace(size, ppo_steps=size.ppo_steps if ppo_steps is None else ppo_steps)
    folder = report.out or Path("out/study-task")
    with entrance(), progress_bar() as bar:
        task_id = bar.add_task("task", total=None)
        document = module.study(
            size, folder, tuple(scenario or ()), lambda words: bar.update(task_id, description=words, advance=1)
        )
    report.finish(document, module.figure, module.summary(document), folder)


@app.command("vector-speed")
@spread
def vector_speed(report: Report) -> None:
    """Steps per second of the native vector env beside Gymnasium's own, in both worlds."""
    from training.evaluation.speed import vector as module

    size = report.of(module)
    with counting("turns", module.turns_of(size)) as advance:
        document = module.study(size, progress=advance)
    report.finish(document, module.figure, module.summary(document))


@app.command()
@spread
def leads(
    *,
    hearts: Annotated[int | None, typer.Option(min=1, help="Hearts of each of the three truths; default 60.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Begin no heart after so many minutes; judge those that are done.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is this one.")] = 0,
    report: Report,
) -> None:
    """Synthetic hearts: is the true reaction named, how well is another pacing foretold, do the intervals cover?

    Finished hearts are kept under the folder of --out, so a study that was stopped goes on. Ctrl-C ends it with the
    document of the hearts that are done.
    """
    import time

    from ecg_gym.executor import executor
    from training.evaluation.leads import study as module

    stop = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    folder = (report.out or Path("out") / "study-leads") / "hearts"
    with entrance(), module.term_as_interrupt(), following("hearts") as follow:
        document = module.study(
            folder, module.size_of(report.quick, hearts), executor(workers), follow, lambda: time.monotonic() < stop
        )
    report.finish(document, module.figure, module.summary(document))


def _of_world(module: Any, model: Path | None, sized: Sized, report: Report) -> None:
    """A study of the learned world: its weights, its size, a bar over the strips it draws, and its document."""
    from ecg_gym.world_model import WorldModel

    size = sized.of(module, report.quick)
    with entrance():
        world = WorldModel.load(model)
    with counting("strips", module.rows_of(size)) as advance:
        document = module.study(world, size, progress=advance)
    report.finish(document, module.figure, module.summary(document))


@app.command()
@spread
def leads_agents(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="Times that every agent works on every heart.")] = 10,
    ppo_steps: Annotated[
        int, typer.Option(min=0, help="Steps that MaskablePPO is trained for; 0 leaves it out.")
    ] = 40_000,
    report: Report,
) -> None:
    """Fits until each LEADS agent is within 5 % of the exhaustive best, on the shipped table of fits."""
    from training.evaluation.leads import agents as module

    count, steps = (2, 0) if report.quick else (seeds, ppo_steps)
    with entrance(), counting("hearts") as advance:
        document = module.study(steps or None, count, advance)
    report.finish(document)


def _beside_truth(
    module: Any, model: Path | None, sized: Sized, report: Report,
    more: Callable[[Any], dict[str, Any]] = lambda world: {},
) -> None:  # fmt: skip
    """A study of the learned world beside the virtual patient; ``more`` are arguments that need the weights."""
    from ecg_gym.virtual_patient import VirtualPatient
    from ecg_gym.world_model import WorldModel

    size = sized.of(module, report.quick)
    with entrance():
        world = WorldModel.load(model)
        row = more(world)
    with counting("questions", module.answers_of(size, report.quick)) as advance:
        document = module.study(world, VirtualPatient(), size, report.quick, advance, **row)
    report.finish(document, module.figure, module.summary(document))


def _register(study: Study) -> None:
    """The command of a study of the learned world; all of these have the same options."""
    run = {"world": _of_world, "truth": _beside_truth}[study.kind]

    def command(*, model: Model = None, sized: Sized, report: Report) -> None:
        run(study.module, model, sized, report)

    app.command(study.name, help=study.question)(spread(command))


for _study in STUDIES.values():
    if _study.kind != "own":
        _register(_study)


def _show(document: dict[str, Any], rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """The document as JSON, or these rows of it as a table."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    from training.evaluation import result

    results(result.WIDTH, exact=True).print(result.rows_table(rows, f"study {document['study']}", digits=4))
