"""The tensors of a release, under their names and as converted."""

import pytest

from helpers import models
from varsr_core.varsr.family import TOKENIZER_NAMES
from varsr_core.varsr.weights import convert


@pytest.fixture(scope="module")
def reference():
    return models.reference_weights()


@pytest.fixture(scope="module")
def tokenizer(reference):
    return {name: t for name, t in reference.items() if name.startswith(TOKENIZER_NAMES)}


@pytest.fixture(scope="module")
def transformer(reference, tokenizer):
    return {name: t for name, t in reference.items() if name not in tokenizer}


@pytest.fixture(scope="module")
def expected(reference):
    return convert(reference)
