"""Multi-dimensional features of language models: find them, test them, intervene on them.

    model = features.load("smollm2")
    months = features.run_task(model, features.get_task("next-month"))
    print(features.intervene(months, layer=0, method="circle"))

After "Not All Language Model Features Are One-Dimensionally Linear" (ICLR 2025; arXiv 2405.14860), and
beyond it. Names are imported when first used: `features --help` does not wait for jax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
