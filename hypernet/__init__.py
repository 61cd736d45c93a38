"""Families of interpretable networks, ranked by complexity.

    trained = hypernet.train(hypernet.TrainConfig(), jax.random.key(0))
    mlp = hypernet.generate(trained.generator, jax.random.key(1), n=7, beta=1e-4)
    print(hypernet.classify(mlp).label, hypernet.formula(mlp).text)

After "Generating Interpretable Networks using Hypernetworks" (arXiv 2312.03051), for which no code was
published. Names are imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
