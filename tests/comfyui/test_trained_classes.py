"""A class-to-image model that training has made, in the nodes it is made for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.class_training import LABELS, pictures, train_classes
from helpers.comfyui.inside import told_inside
from helpers.comfyui.server import HOST_VERSIONS
from varsr_core.checkpoint import read_model
from varsr_core.runtime.execution import Execution
from varsr_core.training.run import MODEL_FILE
from varsr_core.varsr.stages import encode_tokens


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_classes(tmp_path_factory.mktemp("classes")) / MODEL_FILE


@pytest.mark.parametrize("version", HOST_VERSIONS[:1])
def test_node_makes_the_picture_that_was_learned(
    trained: Path, version: str, hosts: dict[str, Path], pack_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "models" / "varsr").mkdir(parents=True)
    shutil.copy(trained, tmp_path / "models" / "varsr" / "model.safetensors")
    made = told_inside("classes_inside", hosts, version, pack_dir, tmp_path)
    model = read_model(trained).build()
    for label in range(LABELS):
        wanted = encode_tokens(model, pictures()[label : label + 1], 1.0, Execution())
        assert made[str(label)] == [ids.flatten().tolist() for ids in wanted.token_ids]
