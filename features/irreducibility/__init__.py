"""Whether a feature is irreducibly multi-dimensional: separability and mixture indices."""
