"""Memory that is told of a step of NSARM, against what a real one has alive."""

import pytest
import torch

from helpers.live_bytes import LiveBytes
from helpers.nsarm_training import batch, micro
from varsr_core.nsarm.training.texts import Texts
from varsr_core.nsarm.training.whole import WholeLoss, WholeTraining
from varsr_core.training.memory.step import pass_memory


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return micro(tmp_path_factory.mktemp("micro"))


def told_and_taken(small, checkpointing):
    """What is told of a pass; bytes alive after its losses, and at most, gradients counted in.

    Without dropout, for which attention on the CPU has no kernel that keeps little.
    """
    texts = Texts(None, small.config.transformer.text_width)
    loss = WholeLoss(small, WholeTraining(dropout=0.0), texts, checkpointing)
    for part in loss.trained():
        part.requires_grad_(True)
    small.zero_grad(set_to_none=True)
    given = batch(small, pictures=4)
    with LiveBytes() as live:
        losses = loss(*loss.inputs(given), torch.Generator().manual_seed(0))
        live.count()
        kept, live.peak = live.alive, live.alive
        losses["loss"].backward()
    return pass_memory(loss, given, 4, None, checkpointing), kept, live.peak


def test_what_is_told_of_a_step_is_what_it_takes(small):
    told, kept, peak = told_and_taken(small, checkpointing=False)
    again, kept_again, peak_again = told_and_taken(small, checkpointing=True)
    assert told.kept == pytest.approx(kept, rel=0.05)
    assert kept_again < again.kept < 0.7 * told.kept, "one of two blocks beside what is kept"
    gradients = sum(p.nbytes for p in small.parameters() if p.requires_grad)
    for said, most in ((told, peak), (again, peak_again)):
        assert 0.5 * (said.kept + gradients) < most
        assert most < said.kept + said.work + gradients
