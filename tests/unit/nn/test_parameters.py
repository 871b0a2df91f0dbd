"""Weights that are brought to where the work is."""

from types import SimpleNamespace

import pytest
import torch

from varsr_core.nn.parameters import bring


class Weight:
    """Notes how it is asked to move."""

    dtype = torch.bfloat16

    def to(self, *where, **how):
        return where, how


@pytest.mark.parametrize("gpu", [True, False])
def test_only_a_gpu_is_not_waited_for(gpu):
    """Elsewhere numbers could be read before they are there."""
    x = SimpleNamespace(device="there", is_cuda=gpu)
    assert bring(Weight(), x) == (("there", torch.bfloat16), {"non_blocking": gpu})
    assert bring(Weight(), x, torch.float32)[0] == ("there", torch.float32)


def test_a_weight_in_its_place_is_itself():
    weight = torch.rand(3)
    assert bring(weight, torch.rand(1)) is weight
    assert bring(weight, torch.rand(1), torch.bfloat16).dtype == torch.bfloat16
