"""``ecg-gym data``: look at real ECGs before and after a drug, and make shards of them for training and studies."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from training.cli.options import Json
from training.console import SAY, counting, entrance

app = typer.Typer(
    help="Real ECGs before and after a drug: check a release, make shards.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
VERSIONS = ("", "1.0.0", "files/{name}/1.0.0")  # where a download may have put a release under --data
PAIRS = "pairs"  # the name of the general format
LICENCE = {"pairs": "the user's own"}

Names = Annotated[list[str], typer.Argument(help="ecgrdvq, ecgdmmld, ecgcipa, or the path of a pairs.csv.")]
Folder = Annotated[
    Path | None, typer.Option(help="Folder of the release, or one that holds a folder of each name; default here.")
]
Protocols = Annotated[
    list[str] | None, typer.Option("--protocol", help="NAME=FILE: doses of a trial from your YAML; repeatable.")
]


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="ecgrdvq, ecgdmmld, ecgcipa, or the path of a pairs.csv.")],
    data: Folder = None,
    protocol: Protocols = None,
    signals: Annotated[bool, typer.Option("--signals", help="Open every ECG: flat leads, artefacts.")] = False,
    hashes: Annotated[bool, typer.Option(help="Compare every file with SHA256SUMS.txt.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write the page there as Markdown.")] = None,
    as_json: Json = False,
) -> None:
    """What a release holds beside what it should hold, with its known defects; or every mistake in a pairs.csv."""
    from ecg_gym.real_trials import check_pairs, check_release

    if _is_pairs(name):
        with entrance():
            mistakes = [str(mistake) for mistake in check_pairs(Path(name))]
            if mistakes and not as_json:
                raise ValueError("\n".join([f"{name} holds {len(mistakes)} mistakes; mend these cells:", *mistakes]))
        _print({"file": name, "mistakes": mistakes}, as_json, f"{name}: no mistakes")
        return
    with entrance():
        table = _table(name, data, protocol or (), alone=True)
        with counting("files") as advance:
            report = check_release(table, signals, hashes, advance)
    if out is not None:
        from ecg_gym.io import write_text

        write_text(out, report.page())
    _print(report.to_json_dict(), as_json, report.page())


@app.command()
def shards(
    names: Names,
    out: Annotated[Path, typer.Option(help="Folder of the shards; it must hold none yet.")],
    data: Folder = None,
    profile: Annotated[
        str, typer.Option(help="full, paper or cipa: which arms, and who is for testing; a pairs.csv needs none.")
    ] = "full",
    protocol: Protocols = None,
    as_json: Json = False,
) -> None:
    """Shards out of releases or of a pairs.csv, people on one side each; says how many ECGs were left out, and why."""
    from ecg_gym.real_trials import write_shards

    with entrance():
        trajectories, sides, about, left_out = _gather(names, data, profile, protocol or ())
        with counting("ECGs", sum(len(t.strips) for t in trajectories)) as advance:
            written = write_shards(trajectories, sides, out, about, left_out, advance)
    document = {
        "folder": str(out), "strips": written.strips, "trajectories": len(written.trials),
        "people": {side: written.subjects(side) for side in ("train", "validation", "test")},
        "pairs": about["pairs"], "left_out": dict(written.left_out), "remarks": about["remarks"],
    }  # fmt: skip
    lines = [f"shards   {out}: {written.strips} ECGs of {document['people']} people, pairs {about['pairs']}"]
    lines += [f"left out {number} ECGs: {reason}" for reason, number in written.left_out.items()]
    lines += [f"note     {remark}" for remark in (*about["remarks"], *about["notices"])]
    _print(document, as_json, "\n".join(lines))


@app.command()
def episodes(
    mimic: Annotated[Path, typer.Option(help="Folder of MIMIC-IV; holds hosp/ and icu/.")],
    ecg: Annotated[Path, typer.Option(help="Folder of MIMIC-IV-ECG; holds record_list.csv and files/.")],
    out: Annotated[Path, typer.Option(help="The pairs.csv to write; its notice lies beside it.")],
    rule: Annotated[
        Path | None, typer.Option(help="YAML with numbers and lists of the episode rule that replace the shipped ones.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A pairs.csv of episodes in MIMIC-IV: ECG, first dose of a drug, ECG; with the attrition and negative controls."""
    from ecg_gym.real_trials.mimic_episodes import find_episodes, write_episodes
    from ecg_gym.real_trials.mimic_tables import Hospital, load_rule

    with entrance():
        rule_table = load_rule(rule)
        rows, attrition = find_episodes(Hospital(mimic, ecg), rule_table)
        if not rows:
            raise ValueError(f"no episode is left ({attrition}); expected some; widen the windows with --rule")
        write_episodes(rows, rule_table, ecg, out)
    lines = [f"{number:>10,}  {step}" for step, number in attrition.items()]
    lines += [f"pairs    {out}", *(f"note     {notice}" for notice in rule_table["notices"])]
    _print({"file": str(out), "attrition": attrition, "notices": rule_table["notices"]}, as_json, "\n".join(lines))


@app.command()
def patients(
    out: Annotated[Path, typer.Option(help="The file of the set.")],
    name: Annotated[
        str, typer.Option(help="Name of the set; with --secret-file the set whose twin it is.")
    ] = "test-v1",
    n: Annotated[
        int | None, typer.Option("--n", min=2, help="Patients per scenario; default 100, or the set's.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="Make a private twin of the set: other patients, from what this file holds.")
    ] = None,
) -> None:
    """A frozen set of patients for `evaluate --split FILE`: quotas by kind, seeds, a hash of every first strip."""
    from ecg_gym.envs.patient_sets import PATIENTS, make_patients, private_twin
    from ecg_gym.envs.scenarios import load_scenarios

    with entrance(), counting("scenarios", len(load_scenarios())) as advance:
        if secret_file is not None:
            patient_set = private_twin(secret_file.read_bytes(), name, n)
        else:
            patient_set = make_patients(name, n=n or PATIENTS, progress=lambda scenario: advance())
        patient_set.save(out)
    SAY.print(f"patients {out}: {patient_set.name}, sha256 {patient_set.sha256}")


@app.command()
def offline(
    out: Annotated[Path, typer.Option(help="The .npz of the steps.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps at least; episodes are whole.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, max=49, help="Other patients of the training stream.")] = 0,
    scenario: Annotated[str | None, typer.Option(help="One scenario; default the id's own patients.")] = None,
    minari: Annotated[str | None, typer.Option(help="Also make a Minari data set of this name.")] = None,
) -> None:
    """Steps of guideline, random and a noisy oracle with behaviour probabilities, for offline learning."""
    from training.evaluation.benchmark.offline import collect, save, to_minari

    parts = []
    arguments: dict[str, Any] = {} if scenario is None else {"scenario": scenario}
    with entrance(), counting("steps", steps) as advance:
        for part in collect(steps, seed, **arguments):
            parts.append(part)
            advance(len(part["actions"]))
        n = save(parts, out)
        if minari is not None:
            to_minari(out, minari)
    SAY.print(f"steps    {out}: {n}")


def _gather(
    names: list[str], data: Path | None, profile: str, protocols: Any
) -> tuple[list[Any], dict[str, str], Any, Any]:
    """Trajectories, sides, what to say about them, and ECGs left out by reason."""
    from ecg_gym.real_trials import profile_named, read_pairs, releases, sides_of, trajectories_of
    from ecg_gym.real_trials.profiles import by_hash, select
    from ecg_gym.real_trials.trajectories import count_pairs

    settings, trajectories = profile_named(profile), []
    left_out: Counter[str] = Counter()
    about: dict[str, Any] = {"profile": profile, "sources": [], "remarks": [], "notices": []}
    sides: dict[str, str] = {}
    for name in names:
        if _is_pairs(name):
            own = read_pairs(Path(name))
            hashed = by_hash(list({trajectory.subject for trajectory in own}))
            sides |= {t.subject: t.side or hashed[t.subject] for t in own}
            about["sources"].append({"source": Path(name).name, "licence": LICENCE["pairs"]})
            about["notices"] += _notices(Path(name))
        else:
            table = select(settings, _table(name, data, protocols, alone=len(names) == 1))
            own, unconditioned = trajectories_of(table)
            left_out += unconditioned
            about["sources"].append(
                {"source": releases()[name]["title"], "licence": "ODC-By 1.0", "protocol": table.protocol.name,
                 "ecgs": len(table), "citation": releases()[name]["source"]}
            )  # fmt: skip
        trajectories += own
    trial_sides, about["remarks"] = sides_of(settings, trajectories)
    about["pairs"] = dict(count_pairs(trajectories))
    return trajectories, sides | trial_sides, about, left_out


def _notices(path: Path) -> list[str]:
    """Sentences that lie beside a pairs.csv and go with everything made of it (``pairs.notice.txt``)."""
    beside = path.with_suffix(".notice.txt")
    return beside.read_text(encoding="utf-8").splitlines() if beside.is_file() else []


def _table(name: str, data: Path | None, protocols: Any, alone: bool) -> Any:
    from ecg_gym.real_trials import read_trial, releases

    if name not in releases():
        raise ValueError(
            f"name is {name!r}; expected one of {', '.join(releases())}, or the path of a pairs.csv; check the spelling"
        )
    for text in protocols:
        if "=" not in text:
            raise ValueError(f"--protocol is {text!r}; expected NAME=FILE; write --protocol {name}=my_protocol.yaml")
    own = dict(text.split("=", 1) for text in protocols)
    return read_trial(name, _release(name, data or Path(), alone), own.get(name))


def _release(name: str, data: Path, alone: bool) -> Path:
    """The folder of a release: ``data`` itself where only one is asked for, or a folder of that name in it."""
    from ecg_gym.real_trials import releases

    table = releases()[name]["tables"][0]
    roots = [data / name, *([data] if alone else []), data]
    places = [root / version.format(name=name) for root in roots for version in VERSIONS]
    there = [place for place in places if (place / table).is_file()]
    if not there:
        raise ValueError(
            f"{data} holds no {name} ({table} is in none of {', '.join(dict.fromkeys(map(str, places)))}); expected "
            "the release as downloaded; pass its folder with --data (docs/real_data.md says where it comes from)"
        )
    return there[0]


def _is_pairs(name: str) -> bool:
    return name.lower().endswith(".csv")


def _print(document: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        SAY.print(escape(text), soft_wrap=True)
