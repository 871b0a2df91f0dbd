"""A release of VARSR as its files: two pickles, or one converted file."""

import torch

from varsr_core.checkpoint import Checkpoint, fingerprint, save_checkpoint
from varsr_core.varsr.family import VARSR_FAMILY


def nested_tokenizer(tensors):
    return {"epoch": 3, "trainer": {"vae_local": tensors}}


def nested_transformer(tensors):
    return {"epoch": 3, "trainer": {"var_wo_ddp": tensors}}


def assert_same_model(checkpoint, expected):
    assert checkpoint.family.name == "varsr"
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        if "modulation" in name:  # computed, and rounded by where in memory its factors lie
            torch.testing.assert_close(checkpoint.tensors[name], tensor, msg=name)
        else:
            assert torch.equal(checkpoint.tensors[name], tensor), name


def save(path, content, **kwargs):
    torch.save(content, path, **kwargs)
    return path


def release(folder, tokenizer, transformer):
    """The two files of a release; either may be anything."""
    return [
        save(folder / "VQVAE.pth", nested_tokenizer(tokenizer)),
        save(folder / "VARSR.pth", nested_transformer(transformer)),
    ]


def save_converted(path, expected, dtype=torch.float32):
    checkpoint = Checkpoint(VARSR_FAMILY, expected, fingerprint(expected), {})
    save_checkpoint(checkpoint, path, dtype, metadata={})
    return path
