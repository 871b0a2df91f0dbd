"""How VARSR is trained, as far as a run must know beside `training/`, which is made for it."""
