"""``BestSoFar``: of the weights that a run passes through, those that did best on people it does not learn from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Generic, TypeVar

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ecg_gym.io import atomic_write

PREFIX = "best_"  # of the file in the run's folder
Module = TypeVar("Module", bound=nn.Module)


class BestSoFar(Generic[Module]):
    """Keeps the weights with the lowest score, in a file if there is a folder, so that a run can be resumed.

    ``score`` is what the untouched ``model`` reaches at step 0: it is among the candidates.
    """

    def __init__(self, folder: Path | None, name: str, model: Module, score: float) -> None:
        self.path = None if folder is None else folder / f"{PREFIX}{name}.safetensors"
        self.model = copy.deepcopy(model).cpu()
        self.scores: list[dict[str, float]] = [{"step": 0.0, "score": score}]
        if self.path is not None and self.path.is_file():
            with safe_open(self.path, framework="pt") as file:
                self.scores = json.loads((file.metadata() or {})["scores"])
            self.model.load_state_dict(load_file(self.path))

    @property
    def lowest(self) -> float:
        """The best score so far."""
        return min(row["score"] for row in self.scores)

    def look(self, step: int, model: Module, score: float) -> None:
        """Compare the weights of a step with the best so far, and keep them if they are better."""
        better = score < self.lowest
        self.scores = [row for row in self.scores if row["step"] < step] + [{"step": float(step), "score": score}]
        if better:
            self.model = copy.deepcopy(model).cpu()
        if self.path is not None:
            self._write(self.path)

    def _write(self, path: Path) -> None:
        tensors = {name: value.contiguous().clone() for name, value in self.model.state_dict().items()}
        with atomic_write(path) as aside:
            save_file(tensors, aside, {"scores": json.dumps(self.scores)})
