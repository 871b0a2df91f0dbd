"""Pictures without a model: sizes, checks, colours, alpha, masks."""
