"""MNIST autoregression: predict one pixel's gray value from the pixels before it.

The published network of 94,696 weights: a 1 x 1 stem, five stages of four residual blocks,
each followed by 2 x 2 pooling, and a linear head over 256 gray values. Depthwise
convolutions are sums of nine shifted products, which XLA's CPU backend compiles well and
grouped convolutions are not; on other backends the compiler does as it likes with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

STAGES, BLOCKS = 5, 4
WIDTH, INNER, MULTIPLIER, LEVELS = 20, 40, 3, 256


class Linear(NamedTuple):
    """A 1 x 1 convolution or a dense layer."""

    weight: Float[Array, "... i o"]
    bias: Float[Array, "... o"]


class Block(NamedTuple):
    """x + project(atan(depthwise(atan(expand(x))))); leading axes stage and block."""

    expand: Linear
    depthwise: Linear  # weight [3, 3, inner, multiplier], bias [inner multiplier]
    project: Linear


class Network(NamedTuple):
    """All 94,696 weights."""

    stem: Linear
    blocks: Block
    head: Linear


def _linear(
    key: PRNGKeyArray, lead: tuple[int, ...], shape: tuple[int, ...], outputs: int, fan: int
) -> Linear:
    weight_key, bias_key = jax.random.split(key)
    scale = (fan + 1) ** -0.5
    weight = scale * jax.random.normal(weight_key, (*lead, *shape))
    return Linear(weight, scale * jax.random.normal(bias_key, (*lead, outputs)))


def init(*, key: PRNGKeyArray) -> Network:
    """Weights and biases normal with variance 1 / (fan + 1)."""
    stem, expand, depthwise, project, head = jax.random.split(key, 5)
    lead, outer = (STAGES, BLOCKS), INNER * MULTIPLIER
    return Network(
        _linear(stem, (), (5, WIDTH), WIDTH, 5),
        Block(
            _linear(expand, lead, (WIDTH, INNER), INNER, WIDTH),
            _linear(depthwise, lead, (3, 3, INNER, MULTIPLIER), outer, 9),
            _linear(project, lead, (outer, WIDTH), WIDTH, outer),
        ),
        _linear(head, (), (WIDTH, LEVELS), LEVELS, WIDTH),
    )


def features(
    images: UInt8[Array, "b s s"], row: Int[Array, " b"], column: Int[Array, " b"]
) -> Float[Array, "b s s 5"]:
    """What the network sees of each image when asked for pixel (row, column).

    Channels: intensity / 256 where visible; +1 up to the asked column, else -1; +1 where
    visible, else -1; row and column in [-1, 1). Visible: before the pixel in raster order.
    """
    side = images.shape[1]
    i, j = jnp.arange(side)[None, :, None], jnp.arange(side)[None, None, :]
    r, c = row[:, None, None], column[:, None, None]
    visible = (i < r) | ((i == r) & (j < c))
    sign = lambda yes: jnp.where(yes, 1.0, -1.0)  # noqa: E731
    place = lambda k: jnp.broadcast_to(2 * k / side - 1.0, visible.shape)  # noqa: E731
    channels = [
        jnp.where(visible, images / 256.0, 0.0),
        jnp.broadcast_to(sign(j <= c), visible.shape),
        sign(visible),
        place(i),
        place(j),
    ]
    return jnp.stack(channels, -1).astype(jnp.float32)


def _depthwise(x: Float[Array, "b s s c"], layer: Linear) -> Float[Array, "b s s cm"]:
    """3 x 3, zero padding; output channel c m + k for input channel c."""
    side = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = jnp.zeros((*x.shape, MULTIPLIER), x.dtype)
    for i in range(3):
        for j in range(3):
            part = jax.lax.slice(padded, (0, i, j, 0), (x.shape[0], i + side[0], j + side[1], x.shape[3]))
            total = total + part[..., None] * layer.weight[None, None, None, i, j]
    return total.reshape(*x.shape[:3], -1) + layer.bias[None, None, None]


def _pool(x: Float[Array, "b s s c"]) -> Float[Array, "b t t c"]:
    """2 x 2 means with stride 2; cells beyond the edge don't count."""
    window, padding = (1, 2, 2, 1), [(0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)]
    add = lambda a: jax.lax.reduce_window(a, 0.0, jax.lax.add, window, window, padding)  # noqa: E731
    return add(x) / add(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def logits(
    network: Network, images: UInt8[Array, "b s s"], row: Int[Array, " b"], column: Int[Array, " b"]
) -> Float[Array, "b 256"]:
    """Unnormalized log-probabilities of the asked pixel's gray value."""
    x = features(images, row, column) @ network.stem.weight + network.stem.bias[None, None, None]

    def block(x: Float[Array, "b s s c"], weights: Block) -> tuple[Float[Array, "b s s c"], None]:
        y = jnp.arctan(x @ weights.expand.weight + weights.expand.bias[None, None, None])
        y = jnp.arctan(_depthwise(y, weights.depthwise))
        return x + y @ weights.project.weight + weights.project.bias[None, None, None], None

    for stage in range(STAGES):
        x, _ = jax.lax.scan(block, x, jax.tree.map(lambda a, s=stage: a[s], network.blocks))
        x = _pool(x)
    return x.mean((1, 2)) @ network.head.weight + network.head.bias[None]


def loss(
    network: Network, images: UInt8[Array, "n s s"], batch: int, *, key: PRNGKeyArray
) -> Float[Array, ""]:
    """Mean cross-entropy, nats per pixel, of `batch` random pixels of random images."""
    pick, row_key, column_key = jax.random.split(key, 3)
    side = images.shape[1]
    chosen = images[jax.random.randint(pick, (batch,), 0, images.shape[0])]
    row, column = (jax.random.randint(k, (batch,), 0, side) for k in (row_key, column_key))
    target = chosen[jnp.arange(batch), row, column].astype(jnp.int32)
    scores = logits(network, chosen, row, column)
    return optax.losses.softmax_cross_entropy_with_integer_labels(scores, target).mean()


def evaluate(network: Network, images: UInt8[Array, "n s s"]) -> Float[Array, ""]:
    """Mean cross-entropy over all pixels of all images, nats per pixel."""
    n, side = images.shape[:2]

    def at(position: Array) -> Array:
        row, column = position // side, position % side
        ask = lambda k: jnp.full(n, k, jnp.int32)  # noqa: E731
        scores = logits(network, images, ask(row), ask(column))
        target = images[:, row, column].astype(jnp.int32)
        return optax.losses.softmax_cross_entropy_with_integer_labels(scores, target).mean()

    return jax.lax.map(at, jnp.arange(side * side)).mean()


class TrainState(NamedTuple):
    """A run."""

    network: Network
    optimizer: Any


def train_steps(
    state: TrainState,
    images: UInt8[Array, "n s s"],
    optimizer: optax.GradientTransformation,
    batch: int,
    first: Int[Array, ""],
    steps: int,
    *,
    key: PRNGKeyArray,
) -> tuple[TrainState, Float[Array, " steps"]]:
    """Steps `first` to `first + steps` of a run; batches depend on key and step number alone."""

    def body(state: TrainState, t: Array) -> tuple[TrainState, Array]:
        value, gradient = jax.value_and_grad(loss)(
            state.network, images, batch, key=jax.random.fold_in(key, t)
        )
        updates, inner = optimizer.update(gradient, state.optimizer, state.network)
        network: Any = optax.apply_updates(state.network, updates)
        return TrainState(network, inner), value

    return jax.lax.scan(body, state, first + jnp.arange(steps))
