"""Where the released weights are."""

REPOSITORY = "qyp2000/VARSR"  # on Hugging Face
TOKENIZER_FILE = "VQVAE.pth"  # about 1.4 GB
TRANSFORMER_FILE = "VARSR.pth"  # about 13.7 GB, most of it optimiser state
FILES = (TOKENIZER_FILE, TRANSFORMER_FILE)
