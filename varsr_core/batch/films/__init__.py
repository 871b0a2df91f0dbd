"""Films: read, restored in segments, joined."""
