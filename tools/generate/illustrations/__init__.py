"""Pictures of the help pages, of README and of the registry."""
