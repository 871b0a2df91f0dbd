"""Losses that stages share."""
