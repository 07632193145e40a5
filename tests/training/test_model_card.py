"""Model cards say what the weights say: the shipped ones, and one made up here word by word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ecg_gym import checkpoint
from training import model_card
from training.cli.app import app

METRICS = {
    "step": 12600,
    "real": {
        "error_mv": {"n": 51, "value": 0.022674, "ci95": [0.0183, 0.0287], "baselines": {"flat line": 0.0795}},
        "change_ms": {"n": 42, "value": -9.189},
    },
    "validation": {"copy": 1.5585},
}


def made(folder: Path, **more: object) -> Path:
    path = folder / "mine.safetensors"
    source = {"source": "Somebody's ECGs", "licence": "CC BY 4.0", "strips": {"train": 43000}}
    data = {"sources": [source]}
    loop = {"steps": 13000, "device": "cpu", "seed": 2026, "workers": None}
    tensors = {"a": torch.ones(30, 40), "b": torch.ones(7)}
    training = {"loop": loop, "batch": 8, "first": {"loop": {"steps": 400}}, "second": None}
    checkpoint.save(path, "vae", tensors, {}, data=data, metrics=METRICS, training=training, revision="abc", **more)
    return path


@pytest.mark.parametrize("weights", model_card.shipped(), ids=lambda path: path.name)
def test_the_cards_in_the_package_say_what_their_weights_say(weights: Path) -> None:
    again = "the weights or their words were changed: write the cards again with `python -m training.model_card`"
    assert weights.with_suffix(".md").read_text() == model_card.card(weights), again


def test_every_file_in_the_manifest_has_a_card() -> None:
    assert {path.name for path in model_card.shipped()} == set(checkpoint.manifest())


def test_a_card_word_by_word(tmp_path: Path, monkeypatch) -> None:
    path = made(tmp_path, limits=["Never for cats."], run={"preset": "tiny", "device": "one GPU"})
    sha256 = checkpoint.sha256(path)
    words = {
        "use": ["Research."],
        "kinds": {"vae": {"title": "The codec", "what": "In and out.", "limits": ["Blurs."]}},
        "weights": {sha256[:12]: ["This one hums."], "0123456789ab": ["Another one sings."]},
    }
    monkeypatch.setattr(model_card, "_words", lambda: words)
    assert (
        model_card.card(path)
        == f"""# The codec (`mine.safetensors`)

In and out.

1,207 numbers (float16), {path.stat().st_size / 1e6:.2f} MB. Research only.

## Use

- Research.

## Origin

- SHA-256 `{sha256}`
- preset: tiny
- device: one GPU
- revision: abc

## Learned from

- Somebody's ECGs (CC BY 4.0) - strips: train 43,000

## Training

12,600 of 13,000 steps on cpu, seed 2026. Taken while the training went on: not finished.

- all: batch 8
- first.loop: steps 400
- loop: device cpu, seed 2026, steps 13,000

## Measured when it was made

**overall**

|  | value |
| --- | --- |
| step | 12,600 |

**real**

|  | value | ci95 | baselines | n |
| --- | --- | --- | --- | --- |
| change_ms | -9.19 |  |  | 42 |
| error_mv | 0.0227 | 0.0183 to 0.0287 | flat line 0.0795 | 51 |

**validation**

|  | value |
| --- | --- |
| copy | 1.56 |

## Limits

- Blurs.
- Never for cats.
- This one hums.

Written by `python -m training.model_card` from the file itself; do not edit by hand.
"""
    )


def test_words_of_one_file_go_when_the_file_changes(tmp_path: Path, monkeypatch) -> None:
    path = made(tmp_path)
    words = {**model_card._words(), "weights": {checkpoint.sha256(path)[:12]: ["This one hums."]}}
    monkeypatch.setattr(model_card, "_words", lambda: words)
    assert "This one hums." in model_card.card(path)
    made(tmp_path, version="0.2.0")
    assert "This one hums." not in model_card.card(path)


def test_cards_are_written_beside_the_weights_and_shown_by_the_command(tmp_path: Path) -> None:
    path = made(tmp_path)
    assert model_card.write(tmp_path) == [tmp_path / "mine.md"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.md", "mine.safetensors"]
    rows = CliRunner().invoke(app, ["weights", "show", str(path), "--card"])
    assert rows.exit_code == 0
    assert rows.stdout == (tmp_path / "mine.md").read_text()
    assert CliRunner().invoke(app, ["weights", "--card"]).stdout.count("# The ") == len(model_card.shipped())


def test_a_kind_without_words_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    checkpoint.save(path, "odd", {"a": torch.ones(1)}, {}, data={}, metrics={})
    with pytest.raises(
        ValueError, match=r"is of kind 'odd'; expected one of \[.*'risk', .*; add its words to model_card.yaml"
    ):
        model_card.card(path)
    missing = CliRunner().invoke(app, ["weights", "show", str(tmp_path / "no.safetensors"), "--card"])
    assert missing.exit_code == 2
