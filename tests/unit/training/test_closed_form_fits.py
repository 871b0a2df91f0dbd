"""Which sizes leave room for the first weights of a restorer."""

import pytest

from helpers.closed_form import roomy_sizes
from helpers.paths import NANO
from tools.random_checkpoint import RELEASED
from varsr_core.training.closed_form.restorer import restorer_fits
from varsr_core.training.config import read_config
from varsr_core.training.starting.new_model import config_from_json

TIGHT = {
    "tokenizer": {"latent_channels": 8},
    "transformer": {"width": 48, "heads": 3, "mlp_width": 80, "prefix_widths": (6, 32)},
    "schedule": (1, 2, 3, 4, 5),
}
TOO_TIGHT = {
    "stream, for the blocks": {"transformer": {"depth": 3}},
    "stream, for the scales": {"schedule": (1, 2, 3, 4, 5, 6), "transformer": {"mlp_width": 96}},
    "stream, for itself": {"transformer": {"width": 32, "heads": 2}},
    "first prefix width": {"transformer": {"prefix_widths": (5, 32)}},
    "last prefix width": {"transformer": {"prefix_widths": (6, 31)}},
    "prefix width between": {
        "tokenizer": {"widths": (16, 48, 64)},
        "transformer": {"prefix_widths": (6, 23, 32)},
    },
    "heads, for frequencies": {"transformer": {"heads": 4}},
    "heads, for channels": {
        "tokenizer": {"latent_channels": 17},
        "transformer": {"width": 160, "heads": 10, "mlp_width": 300, "prefix_widths": (6, 80)},
    },
    "MLP": {"transformer": {"mlp_width": 79}},
}


def fits(tokenizer=None, transformer=None, schedule=TIGHT["schedule"]):
    tokenizer = {**TIGHT["tokenizer"], **(tokenizer or {})}
    transformer = {**TIGHT["transformer"], **(transformer or {})}
    return restorer_fits(config_from_json(roomy_sizes(tokenizer, schedule, **transformer)))


@pytest.mark.parametrize("case", TOO_TIGHT)
def test_sizes_without_room_do_not_fit(case):
    assert fits()
    assert not fits(**TOO_TIGHT[case])


def test_default_and_released_sizes_fit():
    transformer = {
        "width": RELEASED.width,
        "depth": RELEASED.depth,
        "heads": RELEASED.heads,
        "mlp_width": 4 * RELEASED.width,
        "prefix_widths": RELEASED.prefix,
    }
    tokenizer = {"widths": RELEASED.levels, "latent_channels": RELEASED.latent}
    assert fits(tokenizer, transformer, RELEASED.sides)
    assert restorer_fits(config_from_json(read_config(NANO).sizes))
