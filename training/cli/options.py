"""Options that many commands share: a dataclass is one parameter of a command and stands for its fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from importlib.util import find_spec
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from training.cli.endpoint import ChatModel, Endpoint, Remote, chat_client

if TYPE_CHECKING:
    from ecg_gym.llm import ChatClient
    from training.evaluation import result

ASSETS = Path(getattr(find_spec("ecg_gym"), "origin", "")).parent / "assets"  # loads nothing: --help needs none of it
Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 is this one. The result does not depend on it.")]
Ray = Annotated[str | None, typer.Option(help="Address of a Ray cluster to work on, or `local`; needs ecg-gym[ray].")]

# The options every study has, so that all look alike.
Model = Annotated[Path | None, typer.Option(help="Weights, or a folder of them; default the package's.")]
Patients = Annotated[int | None, typer.Option(min=4, help="Held-out virtual patients; default the study's own.")]
Samples = Annotated[int | None, typer.Option(min=2, help="Futures drawn per question; default the study's own.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many times everything is drawn anew: seeds 0, 1, ...")]
Quick = Annotated[bool, typer.Option("--quick", help="Within a minute on two cores: few patients, wide intervals.")]
Out = Annotated[Path | None, typer.Option(help="Folder of JSON, CSV and figure; default out/study-NAME.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")]


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a dataclass type are the options that the class has as fields, in their place."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            groups[parameter.name] = kind
            types = get_type_hints(kind, include_extras=True)
            rows = [(f.name, f.default, types[f.name]) for f in fields(kind)]
        else:
            rows = [(parameter.name, parameter.default, kind)]
        parameters += [Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=hint)
                       for name, value, hint in rows]  # fmt: skip

    @functools.wraps(function)
    def command(**values: Any) -> None:
        own = {name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        function(**values, **own)

    del command.__wrapped__  # typer would look at the signature below it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


@dataclass(frozen=True)
class Sized:
    """How much a study draws, where the user says so."""

    patients: Patients = None
    samples: Samples = None
    seeds: Seeds = 1

    def of(self, module: Any, quick: bool) -> result.Size:
        """The size of a study's module, the small one with ``quick``, changed by what the user said."""
        from training.evaluation import result

        return result.size_of(module.USUAL, module.SMALL, quick, self.patients, self.samples, self.seeds)


@dataclass(frozen=True)
class Report:
    """The last options of a study: how long it takes, and where its document goes."""

    quick: Quick = False
    out: Out = None
    as_json: Json = False

    def of(self, module: Any) -> Any:
        """The usual size of a study's module, or with --quick the small one."""
        return module.SMALL if self.quick else module.USUAL

    def finish(
        self, document: dict[str, Any], figure: Any = None, rows: Any = None, folder: Path | None = None
    ) -> None:
        """Writes, draws and prints a document, in ``folder`` where there is no --out; see ``result.finish``."""
        from training.evaluation import result

        result.finish(document, self.out or folder, self.as_json, figure, rows)


@dataclass(frozen=True)
class Chat:
    """The server of a language model."""

    endpoint: Endpoint = None
    chat_model: ChatModel = "default"
    remote: Remote = False

    def client(self, folder: Path) -> ChatClient:
        """A client that keeps its exchanges in ``folder``; see ``endpoint.chat_client``."""
        return chat_client(self.endpoint, self.chat_model, self.remote, folder)


Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default the preset's.")]
Run = Annotated[Path | None, typer.Option("--out", help="Folder of the run. Default runs/<kind>-<preset>.")]


@dataclass(frozen=True)
class Training:
    """The last options of a training."""

    out: Run = None
    resume: Annotated[
        bool, typer.Option(help="Go on with a run that was stopped; --no-resume puts it aside and begins anew.")
    ] = True
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of weights and batches; default the preset's.")
    ] = None
    device: Device = None


@dataclass(frozen=True)
class Together(Training):
    """Those of one that several processes can share."""

    devices: Annotated[
        int,
        typer.Option(help="Processes that train together, each with a batch (GPUs, or CPU processes); needs Fabric."),
    ] = 1
