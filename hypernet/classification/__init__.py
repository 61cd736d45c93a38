"""Which algorithm a network uses: order parameters, labels, short formulas."""
