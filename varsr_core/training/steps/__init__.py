"""What one step of training takes: passes, precision, processes, what is drawn."""
