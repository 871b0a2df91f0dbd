"""As many tiles at once as the size of a card says, whatever is free; fewer only if need be."""

import logging

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.upscaling import restorer
from varsr_core.runtime import device
from varsr_core.runtime.device import execution_on
from varsr_core.runtime.execution import (
    MAX_TILES_AT_ONCE,
    Execution,
    Session,
    halved_to_fit,
    tiles_at_once,
)
from varsr_core.runtime.progress import Stage
from varsr_core.runtime.work import Task
from varsr_core.upscaling import upscale, upscale_each
from varsr_core.varsr.stages import decode_tokens, encode_prefix, sample_tokens

GIGABYTE = 10**9
TILE, WEIGHTS = int(1.2 * GIGABYTE), int(1.7 * GIGABYTE)
CARD = torch.device("cuda:0")
ONE = Task(Stage("one", 1, 1))


@pytest.fixture
def memory(monkeypatch):
    """Sets what is free on a card, and its size."""

    def of(free, size):
        monkeypatch.setattr(
            device, "_memory", lambda _: (int(free * GIGABYTE), int(size * GIGABYTE))
        )

    return of


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


@each(("card", "tiles"), [(2, 1), (4, 1), (6, 2), (8, 3), (12, 6), (24, 13), (80, 16)])
def test_larger_cards_work_on_more_tiles(card, tiles):
    assert tiles_at_once(TILE, WEIGHTS, card * GIGABYTE) == tiles


def test_larger_models_and_tiles_leave_room_for_fewer():
    card = 24 * GIGABYTE
    assert tiles_at_once(TILE, 2 * WEIGHTS, card) < tiles_at_once(TILE, WEIGHTS, card)
    assert tiles_at_once(2 * TILE, WEIGHTS, card) < tiles_at_once(TILE, WEIGHTS, card)
    assert tiles_at_once(TILE, 30 * GIGABYTE, card) == 1, "weights that wait in system memory"
    assert tiles_at_once(1, 1, card) == MAX_TILES_AT_ONCE


def test_a_cpu_works_on_one():
    assert tiles_at_once(TILE, WEIGHTS, None) == 1
    assert execution_on(torch.device("cpu"), TILE, WEIGHTS).prepare() == 1


@each("free", [0.1, 2, 5, 21])
def test_number_does_not_follow_free_memory(memory, free):
    memory(free, 24)
    assert execution_on(CARD, TILE, WEIGHTS).prepare() == 13


@each(("free", "fitting"), [(22, 13), (17.4, 13), (17.3, 6), (8, 6), (7.9, 3), (2, 1), (0, 1)])
def test_it_is_halved_until_so_many_fit_and_that_is_told(memory, caplog, free, fitting):
    memory(free, 24)
    caplog.clear()
    assert execution_on(CARD, TILE, WEIGHTS).make_room(13) == fitting
    told = warnings(caplog)
    assert bool(told) == (fitting < 13)
    for line in told:
        assert f" from 13 to {fitting}; " in line
        assert "last bits of the picture may differ" in line


def test_halving_ends_at_one_and_needs_no_number():
    assert halved_to_fit(16, TILE, 0) == 1
    assert halved_to_fit(1, TILE, 0) == 1
    assert halved_to_fit(16, TILE, None) == 16


def session(at_once, plan, room=lambda tiles: tiles, **choices):
    asked = []

    def make_room(tiles):
        asked.append(tiles)
        return room(tiles)

    return Session(Execution(prepare=lambda: at_once, make_room=make_room), plan, **choices), asked


@each(("tiles", "asked"), [(1, 1), (5, 5), (16, 16), (40, 16)])
def test_room_is_asked_for_the_tiles_there_are_and_no_more(tiles, asked):
    """A small picture drives no other model from the card."""
    made, wanted = session(16, [(ONE, 1), (ONE, tiles)])
    assert wanted == [asked]
    assert made.size == 16, "which blocks are made is not theirs to say"


def test_of_a_canvas_decoded_at_once_its_tiles_count():
    assert session(16, [(ONE, 1)], most=4)[1] == [4]
    assert session(16, [])[1] == [16], "nothing is known"


@each(("fits", "size"), [(4, 4), (2, 2), (1, 1), (0, 1)])
def test_what_does_not_fit_is_not_tried(fits, size):
    assert session(16, [(ONE, 40)], lambda tiles: fits)[0].size == size


def test_fewer_tiles_after_out_of_memory_are_told(caplog):
    def too_many(part):
        if part.stop - part.start > 2:
            raise torch.OutOfMemoryError

    made = Session(Execution(prepare=lambda: 8), [(ONE, 8)])
    made.run(8, ONE, too_many)
    told = [line.partition(";")[0] for line in warnings(caplog)]
    assert told == [
        "memory is short: tiles at once are reduced from 8 to 4",
        "memory is short: tiles at once are reduced from 4 to 2",
    ]


def test_every_stage_asks_for_all_of_its_tiles():
    how, image, asked = restorer(), models.picture(40, 56), []
    execution = Execution(prepare=lambda: 16, make_room=lambda tiles: asked.append(tiles) or tiles)
    prefix = encode_prefix(how.model, image, 2.0, execution)
    tokens = sample_tokens(how.model, prefix, how.sampling, 0, execution)
    decode_tokens(how.model, tokens, execution)
    upscale(image, 2.0, how, execution=execution)
    upscale_each([image[0]] * 2, 2.0, how, execution=execution)
    tiles = prefix.canvas.tiles
    assert tiles == 4, "a canvas that is decoded at once"
    assert asked == [4, 4, 4, 4, 8]


def test_a_restorer_says_what_its_weights_take():
    how = restorer()
    assert how.weight_bytes == sum(weight.nbytes for weight in how.model.parameters())
    assert restorer(dtype=torch.bfloat16).weight_bytes < 0.6 * how.weight_bytes
