"""Pictures, their degradation, and pairs of both."""
