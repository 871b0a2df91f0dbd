"""Pictures written into memory that the caller gives, as they are made."""

import gc

import pytest
import torch

from helpers import models
from varsr_core.runtime.execution import Execution
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.settings import RefineSettings, SampleSettings

FRAMES = 3


@pytest.fixture
def restorer():
    return VARSRRestorer(models.micro_model(), SampleSettings(top_k=20), RefineSettings(steps=2))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_lie_where_they_are_wanted_with_the_bits_they_have_anyway(restorer, channels):
    """Channels last, as ComfyUI and files have them."""
    clip = models.picture(16, 20, channels=channels, images=FRAMES)
    wanted = upscale(clip, 2.0, restorer)
    memory = torch.full((FRAMES, 32, 40, wanted.shape[1]), torch.nan)
    out = memory.movedim(-1, 1)
    assert upscale(clip, 2.0, restorer, out=out) is out
    assert torch.equal(memory, wanted.movedim(1, -1))


def test_pictures_are_rounded_to_the_dtype_that_is_given(restorer):
    clip = models.picture(16, 20, images=FRAMES)
    out = torch.zeros(FRAMES, 3, 32, 40, dtype=torch.float16)
    upscale(clip, 2.0, restorer, out=out)
    assert torch.equal(out, upscale(clip, 2.0, restorer).half())


def test_a_clip_is_held_once(restorer):
    seen, out = [], torch.zeros(FRAMES, 3, 32, 40)

    def look(progress):
        shapes = [t.shape for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
        seen.append(shapes.count(out.shape))

    clip = models.picture(16, 20, images=FRAMES)
    upscale(clip, 2.0, restorer, execution=Execution(on_progress=look), out=out)
    assert set(seen) == {1}


@pytest.mark.parametrize("shape", [(2, 3, 32, 40), (FRAMES, 4, 32, 40), (FRAMES, 3, 40, 32)])
def test_memory_of_another_shape_is_refused_before_any_work(restorer, shape):
    seen = []
    with pytest.raises(ValueError, match=r"\(3, 3, 32, 40\) is expected"):
        upscale(
            models.picture(16, 20, images=FRAMES),
            2.0,
            restorer,
            execution=Execution(on_progress=seen.append),
            out=torch.zeros(shape),
        )
    assert not seen


def test_host_layout_needs_no_copy(restorer):
    found = upscale(models.picture(16, 24, images=2), 2.0, restorer)
    assert found.movedim(1, -1).is_contiguous()
