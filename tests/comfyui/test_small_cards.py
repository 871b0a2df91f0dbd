"""What ComfyUI keeps of the released models on small cards; see cards_inside.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.comfyui.inside import KINDS, told_inside

SMALL = ("8", "6")  # gigabytes


@pytest.fixture(scope="module", params=KINDS)
def cards(
    request: pytest.FixtureRequest,
    hosts: dict[str, Path],
    pack_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, dict[str, int]]]:
    """What cards_inside.py prints."""
    base = tmp_path_factory.mktemp("cards")
    (base / "models").mkdir()
    return told_inside("cards_inside", hosts, request.param, pack_dir, base)


@pytest.mark.parametrize("weights", ["bf16", "fp8"])
def test_varsr_fits_onto_cards_of_8_and_6_gb(cards, weights: str) -> None:
    found = [cards[f"VARSR {weights}"][size] for size in SMALL]
    assert all(card["there"] == card["whole"] for card in found)


@pytest.mark.parametrize("weights", ["bf16", "fp8"])
def test_nsarm_lies_on_cards_of_8_and_6_gb_in_part(cards, weights: str) -> None:
    """The rest waits in system memory, to be copied layer by layer."""
    found = [cards[f"NSARM {weights}"][size] for size in SMALL]
    assert all(1e9 < card["there"] < card["whole"] for card in found)
    assert found[0]["there"] > found[1]["there"]


def test_work_on_a_tile_has_room_beside_the_weights_that_stay(cards) -> None:
    for weights in ("bf16", "fp8"):
        card = cards[f"VARSR {weights}"]["3"]
        assert 0 < card["there"] < card["whole"]
        assert card["there"] + card["working"] < 3e9


def test_8_bits_halve_what_is_left(cards) -> None:
    left = [
        cards[f"NSARM {weights}"]["8"]["whole"] - cards[f"NSARM {weights}"]["8"]["there"]
        for weights in ("bf16", "fp8")
    ]
    assert left[1] < left[0] / 2
