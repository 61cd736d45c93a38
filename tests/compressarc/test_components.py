"""What surviving tensors say: the host's reading against the decoder's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compressarc.multitensor import TYPES, unflattened, unpack
from compressarc.network.components import leading_components, mean_decoded
from compressarc.network.inputs import signature
from compressarc.network.layers.decode import decode
from compressarc.network.parameters import init_params, weights_by_slot
from tests.compressarc import zoo


@pytest.fixture(scope="module")
def trained():
    """Parameters as training leaves them: means, capacities and local adjustments far from the start."""
    static = signature(zoo.SAME.canvas)
    params = init_params(static.shape, key=jax.random.key(0))
    drawn = lambda scale: lambda a: a + scale * jax.random.normal(jax.random.key(a.size), a.shape)  # noqa: E731
    posterior = params.posterior._replace(
        mean=jax.tree.map(drawn(1.0), params.posterior.mean),
        local=jax.tree.map(drawn(0.3), params.posterior.local),
        target=0.1 * jax.random.normal(jax.random.key(5), (18, 4)) - 0.3,
    )
    return static, params._replace(posterior=posterior)


def test_the_mean_output_is_the_decoders_without_noise_and_bias(trained):
    static, params = trained
    none = jax.tree.map(jnp.zeros_like, params.posterior.mean)
    weight = weights_by_slot(params.decode_weight, static.shape)
    bias = jax.tree.map(jnp.zeros_like, params.decode_bias.by_group())
    stream, kl = jax.jit(lambda p: decode(p, none, weight, bias, static.shape))(params.posterior)
    found, nats = mean_decoded(jax.tree.map(np.asarray, params), static)
    np.testing.assert_allclose(nats, kl, rtol=2e-4)
    stream = unflattened(jax.tree.map(np.asarray, stream), static.shape)
    for code, expected in unpack(stream, static.shape).items():
        np.testing.assert_allclose(found[code], expected, rtol=2e-3, atol=2e-4, err_msg=code)


def test_the_leading_component_is_the_direction_of_most_variance(trained):
    static, params = trained
    host = jax.tree.map(np.asarray, params)
    decoded, nats = mean_decoded(host, static)
    found = leading_components(host, static)
    assert list(found) == [TYPES[i] for i in np.argsort(-nats) if nats[i] > 1]
    for code, values in found.items():
        assert values.shape == static.shape.axes(code)
        assert np.abs(values).max() == pytest.approx(1)
        matrix = decoded[code].reshape(-1, decoded[code].shape[-1])
        centered = matrix - matrix.mean(0)
        along = values.ravel() / np.linalg.norm(values)
        # No direction over positions explains more than the first left singular vector.
        assert np.linalg.norm(along @ centered) == pytest.approx(np.linalg.norm(centered, 2), rel=1e-6)


def test_what_is_not_finite_has_no_components(trained):
    static, params = trained
    host = jax.tree.map(np.asarray, params)
    broken = host._replace(posterior=host.posterior._replace(target=np.full((18, 4), np.nan)))
    assert leading_components(broken, static) == {}
