"""Folders of pictures and films, restored by one command: python -m varsr_core.batch --help."""
