"""How canvases are decoded in tests: without gradients, in pieces, with few of them measured."""

import pytest
import torch

from helpers.decoding import MEASURE
from varsr_core.tiling import decode as tiled_decode


@pytest.fixture(scope="module")
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def few_measured(monkeypatch):
    """As for tiles of 512 pixels; small ones would all be measured here."""
    monkeypatch.setattr(tiled_decode, "MEASURED_PIXELS", 0)


@pytest.fixture
def in_pieces(monkeypatch):
    """Also where the whole picture comes with the statistics, as of every small canvas."""

    def measured(features, steps, session):
        done = session.done
        statistics, whole = MEASURE(features, steps, session)
        if whole is not None:  # the pieces will count for it
            session.done = done
        return statistics, None

    monkeypatch.setattr(tiled_decode, "_measure", measured)
