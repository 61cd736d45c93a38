"""Order parameters against a reading of their definitions unit by unit, and their symmetries."""

import chex
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import hypernet
from hypernet.classification.order_parameters import LABELS, OrderParameters, bends_and_slopes, labels_of
from tests.hypernet import plain


def derivative(activation, u):
    p = 1 / (1 + np.exp(-u))
    return {
        "relu": lambda: float(u > 0),
        "swish": lambda: p * (1 + u * (1 - p)),
        "tanh": lambda: 1 - np.tanh(u) ** 2,
        "softplus": lambda: p,
    }[activation]()


def mean_slope(activation, b, s):
    if activation == "relu":
        return float(stats.norm.cdf(b / s))
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return (
        sum(w * derivative(activation, b + s * t) for t, w in zip(nodes, weights, strict=True))
        / weights.sum()
    )


def by_hand(W, v, b, activation, std):
    """The definitions of the module's head, one unit and one input after another."""
    n, hidden = W.shape
    plus, minus = np.zeros(n), np.zeros(n)
    sea = in_spikes = fourth = mass = size = 0.0
    for h in range(hidden):
        r = np.sqrt((W[:, h] ** 2).sum())
        u = W[:, h] / r
        bend = derivative(activation, b[h] + 2 * std * r) - derivative(activation, b[h] - 2 * std * r)
        m = v[h] * r * bend
        mass, size, fourth = mass + m, size + abs(m), fourth + m * (u**4).sum()
        gamma = mean_slope(activation, b[h], std * r)
        for i in range(n):
            if u[i] ** 2 > 0.5:
                (plus if u[i] > 0 else minus)[i] += m * abs(u[i])
                in_spikes += v[h] * W[i, h] * gamma / n
            else:
                sea += v[h] * W[i, h] * gamma / n
    K = plus + minus
    seen = [(plus[i] - minus[i]) / (abs(plus[i]) + abs(minus[i])) for i in range(n) if K[i] > 0.2]
    even = 3 / (n + 2)
    return OrderParameters(
        L=np.float64((fourth / mass - even) / (1 - even)),
        A=np.float64(np.mean(seen) if seen else 0),
        B=np.float64(np.mean(np.abs(seen)) if seen else 0),
        cover=np.mean(K > 1),
        S=np.float64(sea),
        S_spikes=np.float64(in_spikes),
        K=K.mean(),
        K_plus=plus,
        K_minus=minus,
    )


def drawn(seed, n=3, hidden=5):
    """Rows between spikes and seas, biases, readouts that are mostly positive."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, hidden)) * np.where(rng.random((n, hidden)) < 0.4, 3.0, 0.3)
    return W, np.abs(rng.normal(size=hidden)) + 0.05, rng.normal(size=hidden)


@pytest.mark.parametrize("activation", ["relu", "swish", "tanh", "softplus"])
@pytest.mark.parametrize("std", [1.0, 0.4])
def test_order_parameters_are_their_definitions(activation, std):
    for seed in range(6):
        W, v, b = drawn(seed)
        v = v * (0.1, 0.3, 1.0)[seed % 3]  # both sides of the least K that counts
        found = hypernet.order_parameters(W, v, b, activation=activation, input_std=std)
        chex.assert_trees_all_close(found, by_hand(W, v, b, activation, std), rtol=1e-9, atol=1e-12)


def of(W, v, b, activation="relu", std=1.0):
    return hypernet.order_parameters(W, v, b, activation=activation, input_std=std)


def close(found, expected):
    chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-9)


@given(seed=plain.SEEDS, inputs=st.permutations(range(3)), units=st.permutations(range(5)))
def test_neither_inputs_nor_units_have_an_order(seed, inputs, units):
    W, v, b = drawn(seed)
    first, second = of(W, v, b, "swish"), of(W[inputs][:, units], v[units], b[units], "swish")
    by_input = {"K_plus": first.K_plus[inputs], "K_minus": first.K_minus[inputs]}
    close(second, first._replace(**by_input))


@given(seed=plain.SEEDS, share=st.floats(0.01, 0.99), scale=st.floats(1e-3, 1e3))
def test_split_dead_and_rescaled_units_change_nothing(seed, share, scale):
    W, v, b = drawn(seed)
    first = of(W, v, b)
    close(of(np.hstack([W, W]), np.append(share * v, (1 - share) * v), np.append(b, b)), first)
    close(of(np.hstack([W, np.zeros((3, 1))]), np.append(v, 7.0), np.append(b, 1.0)), first)
    close(of(np.hstack([W, W[:, :1]]), np.append(v, 0.0), np.append(b, b[0])), first)
    close(of(scale * W, v / scale, scale * b), first)


@given(seed=plain.SEEDS, factor=st.sampled_from([-2.0, 1e-6, 1e6]), std=st.floats(0.1, 10))
def test_readouts_scale_the_bends_and_the_slopes_and_units_of_the_inputs_cancel(seed, factor, std):
    W, v, b = drawn(seed)
    first, scaled = of(W, v, b, "swish"), of(W, factor * v, b, "swish")
    for name in ("K", "S", "S_spikes", "K_plus", "K_minus"):
        np.testing.assert_allclose(getattr(scaled, name), factor * getattr(first, name), rtol=1e-9)
    np.testing.assert_allclose(scaled.L, first.L, rtol=1e-9)
    # inputs in units of another spread: the same bends per unit
    close(of(W / std, v * std, b, "swish", std)._replace(K=first.K), first._replace(K=first.K))


@given(seed=plain.SEEDS)
def test_turning_all_inputs_round_exchanges_the_signs(seed):
    W, v, b = drawn(seed)
    first, turned = of(W, v, b, "swish"), of(-W, v, b, "swish")
    close(
        turned,
        first._replace(
            A=-first.A, S=-first.S, S_spikes=-first.S_spikes, K_plus=first.K_minus, K_minus=first.K_plus
        ),
    )


def test_networks_side_by_side_are_measured_one_by_one():
    many = [drawn(seed) for seed in range(6)]
    W, v, b = (np.stack(parts).reshape(2, 3, *parts[0].shape) for parts in zip(*many, strict=True))
    found = of(W, v, b, "swish")
    for at in np.ndindex(2, 3):
        close(OrderParameters(*(column[at] for column in found)), of(W[at], v[at], b[at], "swish"))


@pytest.mark.parametrize("activation", ["relu", "swish", "gelu", "gelu-tanh", "softplus", "tanh"])
@pytest.mark.parametrize("size", [0.0, 1e-100, 1e-3, 1e50, 1e99])
def test_weights_of_any_size_give_finite_numbers_or_no_localization(activation, size):
    W, v, b = (size * part for part in drawn(0))
    found = of(W, np.sign(v), b, activation)
    assert all(np.isfinite(part).all() for name, part in found._asdict().items() if name != "L")
    assert np.isfinite(found.L) or float(found.K) == 0


@pytest.mark.parametrize("activation", ["relu", "swish", "gelu", "tanh"])
def test_bends_and_slopes_of_a_unit_that_does_not_vary(activation):
    bias = np.array([-2.0, 0.5, 3.0])
    bend, slope = bends_and_slopes(activation, bias, np.zeros(3))
    np.testing.assert_array_equal(bend, 0)
    phi, h = plain.ACTIVATIONS[activation], 1e-6
    np.testing.assert_allclose(slope, (phi(bias + h) - phi(bias - h)) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("activation", ["swish", "tanh", "softplus"])
def test_mean_slopes_are_the_integrals_over_normal_inputs(activation):
    for b, s in ((0.3, 0.5), (-1.0, 1.5), (2.0, 4.0)):
        value = lambda t, b=b, s=s: stats.norm.pdf(t) * derivative(activation, b + s * t)  # noqa: E731
        exact = integrate.quad(value, -12, 12)[0]
        (found,) = bends_and_slopes(activation, np.array([b]), np.array([s]))[1]
        assert found == pytest.approx(exact, abs=1e-6 if s < 1 else 2e-3)  # 61 nodes see little of a step


unit = st.floats(-1.5, 1.5) | st.sampled_from([-0.5, 0.35, 0.5, 0.9, np.nan])


@given(L=unit, A=unit, B=unit, cover=unit, nmse=unit)
def test_labels_are_the_rule(L, A, B, cover, nmse):
    blank = np.zeros(2)
    p = OrderParameters(*(np.float64(a) for a in (L, A, B, cover, 0, 0, 0)), blank, blank)
    if not nmse <= 0.9:
        expected = "none"
    elif L < 0.35:
        expected = "convexity"
    elif L >= 0.5 and cover >= 0.5:
        mixed = "pudding_pos" if A <= -0.5 else "pudding_neg" if A >= 0.5 else "pudding_mixed"
        expected = "double_sided" if B < 0.5 else mixed
    else:
        expected = "mixed"
    assert str(labels_of(p, nmse)) == expected
    assert expected in LABELS
