"""A start for small models, solved by least squares instead of trained."""
