from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers import batch_files


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring at these sizes, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def micro_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of models.micro_model(), as a file for the batch command."""
    return batch_files.write_micro(tmp_path_factory.mktemp("model") / "micro.safetensors")
