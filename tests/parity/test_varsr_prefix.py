"""The low-quality picture as the transformer sees it."""

from copy import deepcopy

import pytest
import torch

from varsr_core.nn.shells import shell

# CPUs convolve float32 differently: the plain sum is 8e-5 from the recorded numbers, which reach
# 98, the transforms that oneDNN takes on some are 4e-4. So the recorded ones are met in float64.
EXACT = 1e-4


@pytest.fixture
def recorded(golden):
    return golden["prefix_embed"].flatten(2).transpose(1, 2)


@pytest.fixture
def wide(tiny):
    """The model with its prefix encoder in float64."""
    with torch.inference_mode(False):
        model = shell(tiny)
        model.prefix_encoder = deepcopy(tiny.prefix_encoder).double()
        model.dtype = torch.float64
    return model


def test_prefix_equals_the_recorded_one(wide, picture, recorded, record_property):
    with torch.inference_mode():
        prefix = wide.prefix_encoder(picture.double())
    error = (prefix - recorded).abs().max().item()
    record_property("prefix_error", error)
    assert error <= EXACT


def test_encode_prefix_takes_pictures_from_0_to_1(wide, picture, recorded):
    with torch.inference_mode():
        prefix = wide.encode_prefix((picture.double() + 1) / 2)
    torch.testing.assert_close(prefix, recorded.double(), atol=EXACT, rtol=0)


def test_float32_differs_by_rounding_alone(tiny, wide, picture):
    with torch.inference_mode():
        rounded, exact = (
            model.prefix_encoder(picture.to(model.dtype)).double() for model in (tiny, wide)
        )
    torch.testing.assert_close(rounded, exact, atol=1e-5 * exact.abs().max(), rtol=0)
