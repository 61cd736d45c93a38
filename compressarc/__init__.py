"""CompressARC in JAX: solves an ARC-AGI puzzle by compressing it, without pretraining.

    puzzle = compressarc.load_puzzle("6f8cd79b")
    solution = compressarc.solve(puzzle, compressarc.SolveConfig(steps=200), key=jax.random.key(0))
    solution.attempts

Names are imported when first used: `compressarc --help` does not wait for jax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
