"""``ecg-gym leads ...``: discover a patient's tissue model from recordings; turn other formats into recordings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.cli.endpoint import ChatModel, Endpoint, Remote, chat_client
from training.console import SAY, entrance, progress_bar

app = typer.Typer(
    help="Discover the structure of a patient's tissue model (LEADS).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
convert = typer.Typer(
    help="Turn other formats into a folder that `discover` reads.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(convert, name="import")

Folder = Annotated[Path, typer.Option("--out", help="Folder that is written.")]
Rate = Annotated[float | None, typer.Option("--rate", min=0.001, help="Samples per second, if the file lacks it [Hz].")]


@app.command()
def discover(
    data: Annotated[Path, typer.Option(help="Folder with positions.csv, signals.npy or times.npy, and meta.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder for discovery.json, best.safetensors, maps.png and every fit.")],
    agent: Annotated[
        str, typer.Option(help="greedy, random, beam, evolution, bandit, exhaustive, or llm (with --endpoint).")
    ] = "greedy",
    budget: Annotated[int, typer.Option(min=1, max=2000, help="Fits, about half a minute of CPU each.")] = 12,
    effort: Annotated[float, typer.Option(min=0.01, max=10, help="Iterations of a fit, as a multiple of usual.")] = 1.0,
    nodes: Annotated[int, typer.Option(min=10, max=2000, help="Nodes of the tissue at most.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Of the agent and of the split by sites.")] = 0,
    endpoint: Endpoint = None,
    model: ChatModel = "default",
    remote: Remote = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Let an agent search reaction, diffusion and residual for the recordings of one patient; stop it any time."""
    from ecg_gym.datasets.ep import read_ep
    from ecg_gym.tissue import FitOptions
    from training.leads.discover import activation_maps
    from training.leads.discover import discover as work
    from training.leads.maps import draw_maps, save_figure
    from training.leads.patient import data_set

    with entrance():
        recordings = data_set(read_ep(data), data.name, nodes, seed)
        client = chat_client(endpoint, model, remote, out) if agent == "llm" else None
        with progress_bar() as bar:
            task = bar.add_task("fits", total=budget)
            result = work(
                recordings,
                out,
                agent,
                budget,
                seed,
                options=FitOptions(effort=effort),
                client=client,
                progress=lambda done, total, name: bar.update(task, completed=done, description=name),
            )
    if result.best is not None:
        maps = activation_maps(recordings, {str(result.best.spec): result.best}, recordings.validation[0])
        save_figure(draw_maps(maps, recordings.graph.position), out / "maps.png")
    if as_json:
        sys.stdout.write(json.dumps(result.to_json_dict(), indent=2) + "\n")
        return
    _print(result)
    SAY.print(f"numbers  {escape(str(out / 'discovery.json'))}\nmodel    {escape(str(out / 'best.safetensors'))}")


@app.command()
def simulate(
    out: Folder,
    truth: Annotated[str, typer.Option(help="Reaction of the heart: fhn, rm, ap, ms, mms, fk or bocf.")] = "ms",
    seed: Annotated[int, typer.Option(min=0, help="Of the heart.")] = 0,
    kind: Annotated[str, typer.Option(help="voltage or times.")] = "voltage",
) -> None:
    """Write the recordings of a synthetic sheet of tissue, to try `discover` on."""
    from ecg_gym.datasets.ep import write_ep
    from ecg_gym.tissue import hearts, reaction
    from training.leads.patient import recording_of

    with entrance():
        if kind not in ("voltage", "times"):
            raise ValueError(f"--kind is {kind!r}; expected voltage or times; choose one")
        reaction(truth)
        (data,) = hearts(truth, [seed], kind)
        write_ep(recording_of(data), out)
    SAY.print(f"recordings  {escape(str(out))}")


@convert.command()
def edgar(
    signals: Annotated[list[Path], typer.Option(help=".mat with potvals; repeatable, one per protocol.")],
    geometry: Annotated[Path, typer.Option(help=".mat with node or pts, and face or fac.")],
    out: Folder,
    rate: Rate = None,
    unit: Annotated[str | None, typer.Option(help="mV, uV or V, if the file lacks it or is wrong.")] = None,
    length_unit: Annotated[str, typer.Option(help="mm, cm, m or um.")] = "mm",
    transposed: Annotated[bool, typer.Option("--transposed", help="The signals are samples x leads.")] = False,
) -> None:
    """Electrograms of an EDGAR experiment."""
    from ecg_gym.datasets.ep import convert_edgar, write_ep

    with entrance():
        paths: list[Path | str] = list(signals)
        recording = convert_edgar(
            paths, geometry, rate_hz=rate, unit=unit, length_unit=length_unit, transposed=transposed
        )
        write_ep(recording, out)
    SAY.print(f"{recording.protocols} protocols, {len(recording.position)} sites  {escape(str(out))}")


@convert.command()
def optical(
    video: Annotated[Path, typer.Option(help=".npy of frames, (T, H, W) or (protocols, T, H, W).")],
    out: Folder,
    rate: Annotated[float, typer.Option(min=0.001, help="Frames per second [Hz].")],
    pixel_mm: Annotated[float, typer.Option(min=1e-6, help="Width of a pixel on the tissue [mm].")],
    binning: Annotated[int, typer.Option(min=1, help="Pixels averaged in each direction.")] = 1,
    inverted: Annotated[
        bool, typer.Option("--inverted", help="Fluorescence falls when the tissue depolarises.")
    ] = False,
) -> None:
    """A video of optical mapping."""
    from ecg_gym.datasets.ep import convert_optical, write_ep

    with entrance():
        recording = convert_optical(video, rate_hz=rate, pixel_mm=pixel_mm, binning=binning, inverted=inverted)
        write_ep(recording, out)
    SAY.print(f"{recording.protocols} protocols, {len(recording.position)} sites  {escape(str(out))}")


@convert.command()
def carto(
    export: Annotated[Path, typer.Option(help="Folder with NAME.mesh and NAME_car.txt.")],
    out: Folder,
    map_name: Annotated[str | None, typer.Option("--map", help="Name of the map, if there are several.")] = None,
) -> None:
    """The activation times of a map exported from CARTO 3."""
    from ecg_gym.datasets.ep import convert_carto, write_ep

    with entrance():
        recording = convert_carto(export, map_name)
        write_ep(recording, out)
    SAY.print(f"{len(recording.position)} points  {escape(str(out))}")


def _print(result: Any) -> None:
    table = Table(
        title=f"{len(result.run.history)} fits by {result.agent}; a tissue at rest has {result.null_error:.4g}"
    )
    for name in ("candidate", "validation", "train", "parameters"):
        table.add_column(name, justify="left" if name == "candidate" else "right")
    best = result.run.best[0] if result.run.best else None
    for candidate, outcome in sorted(result.run.history, key=lambda pair: pair[1].validation_error):
        numbers = (f"{outcome.validation_error:.5f}", f"{outcome.train_error:.5f}", str(outcome.n_parameters))
        row = numbers if outcome.stable else ("diverged", "", numbers[2])
        table.add_row(escape(str(candidate)), *row, style="bold" if candidate == best else None)
    Console().print(table)
    if result.best is not None:
        SAY.print("  ".join(f"{name} {value:.4g}" for name, value in result.best.values.items()))
