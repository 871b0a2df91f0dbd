"""Training of models from pictures alone; nothing else in varsr_core depends on it."""
