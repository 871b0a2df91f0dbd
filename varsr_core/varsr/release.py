"""Where weights are: the released ones, and the small model that comes with this library."""

from pathlib import Path

from ..files.tensors import with_partner

REPOSITORY = "qyp2000/VARSR"  # on Hugging Face
TOKENIZER_FILE = "VQVAE.pth"  # about 1.4 GB
TRANSFORMER_FILE = "VARSR.pth"  # about 13.7 GB, most of it optimiser state
NANO_FILE = Path(__file__).parent.parent / "assets" / "varsr_nano.safetensors"
FILES = (TOKENIZER_FILE, TRANSFORMER_FILE)


def model_files(path: Path) -> list[Path]:
    """The files of a model: a release's transformer takes the tokenizer that lies beside it."""
    return with_partner(path, TOKENIZER_FILE)
