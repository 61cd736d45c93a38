"""From a trained recurrent network to a verified Python program.

    result = mips.synthesize(mips.get_task("Div_5"), key=jax.random.key(0))
    print(result.source)

After "Opening the AI Black Box: Distilling Machine-Learned Algorithms into Code" (Entropy 26, 1046,
2024; arXiv 2402.05110), and beyond it. Names are imported when first used: `mips --help` does not wait
for jax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
