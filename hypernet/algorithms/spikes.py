"""What the constructions share: steep units on single inputs."""

from __future__ import annotations

import numpy as np


def check(n: int, k: float, activation: str) -> None:
    """Raises ValueError for sizes, slopes and activations that can't be built."""
    if n < 1:
        raise ValueError(f"n={n}: expected at least one input")
    if not 0 < k < np.inf:
        raise ValueError(f"k={k}: expected a positive, finite slope")
    if activation not in ("relu", "swish"):
        raise ValueError(f"activation={activation!r}: the constructions are known for 'relu' and 'swish'")


def missing_mean(k: float, activation: str) -> float:
    """E |x| - x tanh(k x / 2), x standard normal: what two opposed swish units of slope k fall short by."""
    if activation == "relu":
        return 0.0
    t = np.linspace(0, 12, 200_001)
    density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    return float(2 * np.trapezoid(density * 2 * t * np.exp(-k * t) / (1 + np.exp(-k * t)), t))
