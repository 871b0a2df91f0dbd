"""Bytes on disk: reading, streaming and writing tensors; files that are whole or not there."""
