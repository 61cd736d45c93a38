"""A small convolutional classifier for CIFAR-shaped images, in place of the published ResNet-18.

ResNet-18's 11 M weights need 18.7 GB of LODO state; this one has about 58 thousand.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

WIDTHS = (3, 16, 32, 64)
CLASSES = 10


class Layer(NamedTuple):
    """A 3 x 3 convolution, or the dense head."""

    weight: Float[Array, "..."]
    bias: Float[Array, " o"]


def init(*, key: PRNGKeyArray) -> tuple[Layer, ...]:
    """He-normal weights, zero biases: two convolutions a width, then a dense head."""
    keys = iter(jax.random.split(key, 2 * len(WIDTHS)))

    def convolution(i: int, o: int) -> Layer:
        return Layer(jax.random.normal(next(keys), (3, 3, i, o)) * (2 / (9 * i)) ** 0.5, jnp.zeros(o))

    layers = []
    for i, o in itertools.pairwise(WIDTHS):
        layers += [convolution(i, o), convolution(o, o)]
    head = jax.random.normal(next(keys), (WIDTHS[-1], CLASSES)) * WIDTHS[-1] ** -0.5
    return (*layers, Layer(head, jnp.zeros(CLASSES)))


def logits(network: tuple[Layer, ...], images: Float[Array, "b 32 32 3"]) -> Float[Array, "b 10"]:
    """Two 3 x 3 convolutions and a halving of the sides per width, then a global mean."""
    x = images
    for index, layer in enumerate(network[:-1]):
        stride = 2 if index % 2 else 1
        x = jax.lax.conv_general_dilated(
            x, layer.weight, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + layer.bias[None, None, None])
    return x.mean((1, 2)) @ network[-1].weight + network[-1].bias[None]


def loss(
    network: tuple[Layer, ...], images: Float[Array, "b 32 32 3"], labels: Int[Array, " b"]
) -> Float[Array, ""]:
    """Mean cross-entropy in nats, with the published weight penalty of 1e-4 / 2 |x|^2."""
    data = optax.losses.softmax_cross_entropy_with_integer_labels(logits(network, images), labels).mean()
    return data + 0.5e-4 * optax.tree.norm(network, squared=True)


def synthetic_batch(batch: int, *, key: PRNGKeyArray) -> tuple[Float[Array, "b 32 32 3"], Int[Array, " b"]]:
    """CIFAR-shaped images that can be told apart: gratings whose direction is the class."""
    label_key, phase_key, noise_key = jax.random.split(key, 3)
    labels = jax.random.randint(label_key, (batch,), 0, CLASSES)
    angle = labels[:, None, None] * (jnp.pi / CLASSES)
    i, j = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij")
    phase = jax.random.uniform(phase_key, (batch, 1, 1), maxval=2 * jnp.pi)
    wave = jnp.sin(0.8 * (jnp.cos(angle) * i[None] + jnp.sin(angle) * j[None]) + phase)
    return wave[..., None] + 0.5 * jax.random.normal(noise_key, (batch, 32, 32, 3)), labels
