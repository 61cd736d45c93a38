"""The published tasks as pure functions, and loops that run optimizers on them."""
