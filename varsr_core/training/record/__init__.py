"""What a run leaves behind beside its models."""
