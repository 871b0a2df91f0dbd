"""Picture files, read and written."""
