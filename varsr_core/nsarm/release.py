"""The files of the released weights."""

from pathlib import Path

from ..files.tensors import with_partner

TRANSFORMER_FILE = "NSARM.pth"  # handed out in pieces
AUTOENCODER_FILE = "infinity_vae_d56_f8_14_patchify.pth"


def model_files(path: Path) -> list[Path]:
    """The files of a model: a release's transformer takes the autoencoder that lies beside it."""
    return with_partner(path, AUTOENCODER_FILE)
