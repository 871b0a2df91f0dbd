"""Nodes of VARSR."""
