"""Nodes of NSARM."""
