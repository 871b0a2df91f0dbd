"""How K2N is trained for a VARSR."""
