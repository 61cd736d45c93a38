"""How good an autoencoder is, in double precision; what the model loses without its state."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features
from features.sae.config import SAEConfig
from features.sae.metrics import Recovered
from features.sae.model import SAE

from .test_model import D_IN, D_SAE, example, plain

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.slow
@settings(max_examples=16)
@given(SEEDS, st.sampled_from([0.0, 300.0]), st.sampled_from(["topk", "jumprelu"]))
def test_quality_is_that_of_double_precision(seed, offset, activation):
    sae = example(3, activation, "constant_norm_rescale")
    x = (np.random.default_rng(seed).normal(size=(50, D_IN)) + offset).astype(np.float32)
    latents, out = plain(sae, x)
    error = ((x - out) ** 2).sum()
    spread = ((x - x.astype(float).mean(0)) ** 2).sum()
    found = features.evaluate(sae, x, batch=32)
    assert found.mse == pytest.approx(error / 50, rel=1e-3)
    assert found.fve == pytest.approx(1 - error / spread, rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(
        found.frequency, (latents > 0).mean(0), atol=0.021
    )  # one of fifty may be at the edge
    assert found.l0 == pytest.approx(found.frequency.sum())
    assert found.dead == (found.frequency == 0).mean()


@pytest.mark.slow
def test_quality_depends_neither_on_batches_nor_on_the_order_of_tokens():
    sae = example(1, "topk")
    x = np.random.default_rng(0).normal(size=(90, D_IN)).astype(np.float32)
    whole = features.evaluate(sae, x)
    for other in (features.evaluate(sae, x, batch=32), features.evaluate(sae, x[::-1], batch=90)):
        assert other.mse == pytest.approx(whole.mse, rel=1e-5) and other.fve == pytest.approx(
            whole.fve, rel=1e-5
        )
        np.testing.assert_array_equal(other.frequency, whole.frequency)


@given(st.floats(0, 10), st.floats(0.1, 10))
def test_the_share_is_one_for_no_loss_and_nothing_for_all_of_it(clean, gap):
    assert Recovered(clean, clean, clean + gap).share == 1
    assert Recovered(clean, clean + gap, clean + gap).share == pytest.approx(0, abs=1e-12)
    assert Recovered(clean, clean + gap / 2, clean + gap).share == pytest.approx(0.5)


@pytest.mark.slow
def test_cross_entropies_are_those_of_edited_forwards(tiny_model):
    """By forwards of whole texts whose state is overwritten, and the log-softmax written out."""
    decoder, tokens = tiny_model.decoder, np.random.default_rng(0).integers(0, 20, (5, 7))
    sae = example_of_width(decoder.config.width)

    def entropy(edit):
        logits = np.asarray(features.forward(decoder, tokens, None, edit), float)[:, :-1]
        logits = logits - logits.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        return (np.log(np.exp(logits).sum(-1)) - chosen).mean()

    def written(site, layer, x, *, through):
        if site != "resid":
            return x
        value = features.reconstruct(sae, x) if through else jnp.zeros_like(x)
        return jnp.where((layer == 1) & (jnp.arange(7) >= 2)[None, :, None], value, x)

    found = features.loss_recovered(decoder, sae, tokens, 1, skip=2, batch=2)
    assert found.clean == pytest.approx(entropy(features.lm.decoder.no_edit), abs=1e-4)
    assert found.reconstructed == pytest.approx(entropy(lambda *a: written(*a, through=True)), abs=1e-4)
    assert found.zeroed == pytest.approx(entropy(lambda *a: written(*a, through=False)), abs=1e-4)
    with pytest.raises(ValueError, match="layer=2: expected 0 to 1"):
        features.loss_recovered(decoder, sae, tokens, 2)
    with pytest.raises(ValueError, match="the vocabulary has 0 to"):
        features.loss_recovered(decoder, sae, tokens + 1000, 1)


def example_of_width(width):
    draw = lambda seed, *shape: 0.5 * jax.random.normal(jax.random.key(seed), shape)  # noqa: E731
    weights = draw(0, width, D_SAE), draw(1, D_SAE), draw(2, D_SAE, width), draw(3, width)
    return SAE(*weights, None, None, SAEConfig(width, D_SAE))


def test_a_dead_latent_is_one_that_never_fires():
    sae = eqx.tree_at(lambda s: s.b_enc, example(0), jnp.where(jnp.arange(D_SAE) < 2, -1e6, 1e6))
    found = features.evaluate(sae, np.random.default_rng(0).normal(size=(20, D_IN)))
    assert found.dead == pytest.approx(2 / D_SAE) and found.l0 == D_SAE - 2
