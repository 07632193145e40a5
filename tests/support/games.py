"""A game in the analytic world, for tests of the command line."""

from __future__ import annotations

from pathlib import Path

from training.cli.play import Game

KWARGS = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "scenario": "healthy_volunteer", "horizon": 4}


def start(path: Path, seed: int = 0, **kwargs: object) -> Game:
    return Game.start({**KWARGS, **kwargs}, seed, {}, path / "episode.json")
