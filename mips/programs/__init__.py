"""Programs as trees of expressions: evaluation, enumeration, text."""
