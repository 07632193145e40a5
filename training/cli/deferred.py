"""Groups of commands that are imported when one of them is asked for: `ecg-gym --help` builds only what it prints."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperGroup

GROUPS = {  # name -> module, attribute, and what its own help says
    "train": ("training.cli.train", "app", "Train one learned thing; stop it any time, the same command goes on."),
    "study": ("training.cli.study", "app", "Measure something and print it beside its trivial baselines."),
    "leads": ("training.cli.leads", "app", "Discover the structure of a patient's tissue model (LEADS)."),
    "data": ("training.cli.data", "app", "Real ECGs before and after a drug: check a release, make shards."),
    "leaderboard": ("training.cli.evaluate", "leaderboard", "The leaderboard: add submissions, write the page."),
    "weights": (
        "training.cli.weights", "app",
        "What weights ship: kind, size, hash, and under which licences the data came that they learned from.",
    ),
}  # fmt: skip


class DeferredGroup(TyperGroup):
    """A group that knows its name and help; the rest comes from its module, once."""

    def __init__(self, name: str, module: str, attribute: str, help: str) -> None:
        super().__init__(name=name, help=help, rich_markup_mode="markdown")
        self.module, self.attribute = module, attribute

    @cached_property
    def group(self) -> Any:
        """The group itself."""
        command = typer.main.get_group(getattr(import_module(self.module), self.attribute))
        command.name = self.name
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """That of the group itself, which then parses and runs."""
        return self.group.make_context(*args, **kwargs)


class RootGroup(TyperGroup):
    """The commands of its own, and the deferred groups behind them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (module, attribute, says) in GROUPS.items():
            self.add_command(DeferredGroup(name, module, attribute, says))
