"""TF32 is off while any of the pack's work runs, and behind that as the program had it."""

from threading import Event, Thread

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from helpers import models
from helpers.each import each
from helpers.nsarm_goldens import model, trace
from helpers.upscaling import ONE_BY_ONE, CancelledError, restorer, staged
from varsr_core.nsarm import stages as nsarm_stages
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.precision import without_tf32
from varsr_core.upscaling import upscale, upscale_each
from varsr_core.varsr.stages import decode_scales, encode_prefix, encode_tokens, sample_tokens

CONVOLUTIONS, PRODUCTS = torch.backends.cudnn, torch.backends.cuda.matmul
NEW = hasattr(PRODUCTS, "fp32_precision")  # the switches of newer versions of torch
OPERATIONS = (nn.Linear, nn.Conv2d)
SMALL = models.picture(20, 24)


def readable(switch):
    try:
        return switch()
    except RuntimeError:
        return "told in two ways"


def switches():
    """All that can be read of them."""
    found = [
        readable(lambda: CONVOLUTIONS.allow_tf32),
        readable(lambda: PRODUCTS.allow_tf32),
        readable(torch.get_float32_matmul_precision),
    ]
    if NEW:
        operations = (CONVOLUTIONS.conv, PRODUCTS, torch.backends.mkldnn.matmul)
        found += [operation.fp32_precision for operation in operations]
    return found


def exact():
    if NEW:
        return "tf32" not in (CONVOLUTIONS.conv.fp32_precision, PRODUCTS.fp32_precision)
    return not (CONVOLUTIONS.allow_tf32 or PRODUCTS.allow_tf32)


def of_the_program(precision):
    def ask():
        torch.backends.fp32_precision = precision

    return ask


def of_products(precision):
    def ask():
        PRODUCTS.fp32_precision = precision

    return ask


def in_conflict():
    CONVOLUTIONS.conv.fp32_precision = "ieee"  # and "tf32" for recurrent layers


ASKED = {
    "nothing": lambda: None,
    "highest": lambda: torch.set_float32_matmul_precision("highest"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "allowed": lambda: setattr(PRODUCTS, "allow_tf32", True),
    "forbidden": lambda: setattr(CONVOLUTIONS, "allow_tf32", False),
}
if NEW:
    ASKED |= {
        "products": of_products("tf32"),
        "all": of_the_program("tf32"),
        "exact": of_the_program("ieee"),
        "in conflict": in_conflict,
    }


@pytest.fixture(autouse=True)
def as_torch_begins():
    def begin():
        if NEW:
            torch.backends.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        if NEW:
            PRODUCTS.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"
        CONVOLUTIONS.allow_tf32 = True

    begin()
    yield
    begin()


@pytest.fixture
def work():
    """For each convolution and matrix product of a network, whether it was exact."""
    seen = []

    def look(module, _):
        if isinstance(module, OPERATIONS):
            seen.append(exact())

    hook = register_module_forward_pre_hook(look)
    yield seen
    hook.remove()


def nsarm():
    return NSARMRestorer(model(), SampleSettings(), trace()["in.text_features"])


def nsarm_staged():
    how = nsarm()
    prefix = nsarm_stages.encode_prefix(how, SMALL, 2.0, ONE_BY_ONE)
    sampled = nsarm_stages.sample(how, prefix, 0, ONE_BY_ONE)
    nsarm_stages.decode(how, sampled, ONE_BY_ONE)


def tokens_shown():
    tiny = restorer().model
    encode_tokens(tiny, SMALL, 2.0, ONE_BY_ONE)
    prefix = encode_prefix(tiny, SMALL, 2.0, ONE_BY_ONE)
    decode_scales(tiny, sample_tokens(tiny, prefix, restorer().sampling, 0, ONE_BY_ONE), ONE_BY_ONE)


WORK = {
    "upscale": lambda: upscale(SMALL, 2.0, restorer()),
    "upscale_each": lambda: upscale_each([SMALL[0]], 2.0, restorer()),
    "stages": lambda: staged(SMALL, 2.0, restorer()),
    "tokens": tokens_shown,
    "NSARM": lambda: upscale(SMALL, 2.0, nsarm()),
    "NSARM stages": nsarm_staged,
}


@pytest.mark.parametrize("name", WORK)
def test_every_stage_is_exact_and_the_program_gets_its_switches_back(work, name):
    assert not exact(), "torch allows TF32"
    before = switches()
    WORK[name]()
    assert work
    assert all(work)
    assert switches() == before


@each("cancel_at", [0.0, 0.5, 1.0])
def test_cancelled_work_gives_them_back(cancel_at):
    def cancel(progress):
        if progress.done >= cancel_at * progress.total:
            assert exact()
            raise CancelledError

    before = switches()
    with pytest.raises(CancelledError):
        upscale(SMALL, 2.0, restorer(), execution=Execution(on_progress=cancel))
    assert switches() == before


@pytest.mark.parametrize("asked", ASKED)
def test_however_the_program_asked_it_is_off_inside_and_as_before_behind(asked):
    ASKED[asked]()
    before = switches()
    with without_tf32:
        assert exact()
        with without_tf32:
            assert exact()
        assert exact(), "the outer work is not done yet"
    assert switches() == before


def test_work_in_two_threads_keeps_it_off_until_both_have_ended():
    before, entered, may_end = switches(), Event(), Event()

    @without_tf32
    def other():
        entered.set()
        may_end.wait(10)

    thread = Thread(target=other)
    with without_tf32:
        thread.start()
        assert entered.wait(10)
    assert exact(), "of the other one"
    may_end.set()
    thread.join()
    assert switches() == before
