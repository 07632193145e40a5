"""Specs are values: JSON there and back, keys that are the same everywhere, 1,728 of them."""

from __future__ import annotations

import pytest

from ecg_gym.tissue import Spec, specs


def test_the_catalogue_has_1728_structures_with_different_keys() -> None:
    every = list(specs())
    assert len(every) == len({spec.key for spec in every}) == 8 * 8 * 3 * 3 * 3


def test_json_there_and_back() -> None:
    spec = Spec("ap", "flux_mlp", "uv_code", 32, "strong")
    assert Spec.from_json(spec.to_json()) == spec
    assert hash(Spec.from_json(spec.to_json())) == hash(spec)


def test_a_key_does_not_change_between_releases() -> None:
    assert Spec().key == "507c37897be94dba"


def test_what_is_not_in_the_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="diffusion"):
        Spec("ap", "magic")
    with pytest.raises(ValueError, match="expected a JSON object"):
        Spec.from_json('{"reaction": "ap"}')
    with pytest.raises(ValueError, match="keywords"):
        list(specs(colour=("red",)))
