"""Device, memory and speed: what runs where, how much at once, and how it is told."""
