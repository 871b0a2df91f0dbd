"""The files of the released weights."""

from pathlib import Path

TRANSFORMER_FILE = "NSARM.pth"  # handed out in pieces
AUTOENCODER_FILE = "infinity_vae_d56_f8_14_patchify.pth"
PICKLES = (".pth", ".pt", ".ckpt")


def model_files(path: Path) -> list[Path]:
    """The files of a model: a release's transformer takes the autoencoder that lies beside it."""
    autoencoder = path.with_name(AUTOENCODER_FILE)
    if path.suffix in PICKLES and path.name != AUTOENCODER_FILE and autoencoder.is_file():
        return [path, autoencoder]
    return [path]
