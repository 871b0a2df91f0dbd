"""How much memory a step takes, counted before it is taken."""
