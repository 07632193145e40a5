"""The trained proposer: shapes, what its loss asks for, and that it can learn whom to give what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planning import start

from ecg_gym.pharmacology import FORMULARY
from planners.proposers.learned import CARD, LearnedProposer, RankingConfig, RankingNet, raw_card

MENU = tuple(str(treatment) for treatment in FORMULARY.menu() if treatment)
SMALL = RankingConfig(menu=MENU, channels=3, columns=16, width=8, queries=2, heads=2, layers=1)


class Codec:
    """Latents that say how high the strip is."""

    def encode(self, strips: torch.Tensor) -> torch.Tensor:
        return strips.mean((1, 2))[:, None, None].expand(-1, 3, 16)


def network(config: RankingConfig = SMALL) -> RankingNet:
    torch.manual_seed(0)
    return RankingNet(config)


def test_every_item_has_a_score_that_depends_on_strip_and_card() -> None:
    made = network().eval()
    latent, card = torch.randn(2, 3, 16), torch.randn(2, len(CARD))
    scores = made(latent, card)
    assert scores.shape == (2, len(MENU))
    assert not torch.allclose(made(latent + 1, card), scores)
    assert not torch.allclose(made(latent, card + 1), scores)
    torch.testing.assert_close(made(latent[1:], card[1:]), scores[1:])


def test_forbidden_items_take_no_part_in_the_loss() -> None:
    made = network()
    latent, card = torch.randn(1, 3, 16), torch.randn(1, len(CARD))
    known = torch.zeros(1, len(MENU), dtype=torch.bool)
    known[0, :2] = True
    target = torch.zeros(1, len(MENU))
    target[0, 0] = 1.0
    before = made.loss(latent, card, target, known)
    with torch.no_grad():
        made.head.bias[5] += 100.0
    torch.testing.assert_close(made.loss(latent, card, target, known), before)


def test_it_learns_that_the_fast_get_one_drug_and_the_slow_another() -> None:
    config = RankingConfig(
        menu=("a", "b"), card=("hr_bpm",), channels=3, columns=4, width=8, queries=2, heads=2, layers=1
    )
    made = network(config)
    optimizer = torch.optim.Adam(made.parameters(), 0.02)
    generator = torch.Generator().manual_seed(0)
    known = torch.ones(32, 2, dtype=torch.bool)
    for _ in range(60):
        card = torch.randn(32, 1, generator=generator)
        target = torch.cat([card > 0, card <= 0], dim=1).float()
        optimizer.zero_grad()
        made.loss(torch.zeros(32, 3, 4), card, target, known).backward()
        optimizer.step()
    scores = made(torch.zeros(2, 3, 4), torch.tensor([[1.5], [-1.5]]))
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]


def test_the_card_is_what_is_known_and_the_proposals_are_the_menu() -> None:
    assert raw_card(start()).shape == (1, len(CARD))
    items = LearnedProposer(network(), Codec()).propose(start(), np.random.default_rng(0))
    assert sorted(map(str, items)) == sorted(MENU)
    other = LearnedProposer(
        network(RankingConfig(**{**SMALL.__dict__, "menu": ("ketchup 1 mg PO", *MENU[:3])})), Codec()
    )
    assert len(other.propose(start(), np.random.default_rng(0))) == 3, "what the formulary has no more is left out"


def test_another_codec_is_refused(tmp_path) -> None:
    from ecg_gym import checkpoint
    from planners.proposers.learned import KIND

    path = tmp_path / "proposer.safetensors"
    made = network()
    checkpoint.save(path, KIND, made.state_dict(), made.config, data={}, metrics={}, half=False)
    with pytest.raises(ValueError, match="is another; pass its path, or train anew"):
        LearnedProposer.load(path)
