"""K2N: the first token maps of the released VARSR, predicted from the low-quality picture."""
