"""The classifier on constructed networks, on what must not change it, and on anybody's networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hypernet
from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP

NETWORKS = {
    "double_sided": lambda n, act: hypernet.double_sided(n, k=1 if act == "relu" else 10, activation=act),
    "pudding_pos": lambda n, act: hypernet.pudding(n, "positive", activation=act),
    "pudding_neg": lambda n, act: hypernet.pudding(n, "negative", activation=act),
    "convexity": lambda n, act: hypernet.convexity(n, 16 * n, key=jax.random.key(n), activation=act),
}


def arrays(mlp):
    return (np.array(a, float) for a in (mlp.W, mlp.b, mlp.v, mlp.c))


def label(W, b, v, c, act):
    return hypernet.classify((W, b, v, c), activation=act, points=4000).label


@pytest.mark.parametrize("act", ["relu", "swish"])
@pytest.mark.parametrize("name", NETWORKS)
def test_constructed_networks(name, act):
    for n in (4, 9, 16):
        found = hypernet.classify(NETWORKS[name](n, act), points=4000)
        assert found.label == name
        assert not found.ambiguous


# order parameters of the recorded networks at n = 16
@pytest.mark.parametrize(
    ("mlp", "expected"),
    [
        (hypernet.double_sided(16), {"L": 1, "A": 0, "B": 0, "S": 0, "K": 2, "cover": 1}),
        (hypernet.pudding(16, "negative", activation="relu"), {"L": 1, "A": 1, "B": 1, "S": -1, "K": 2}),
        (hypernet.pudding(16, "positive"), {"L": 1, "A": -1, "B": 1, "S": 1, "K": 2}),
    ],
)
def test_order_parameters_of_exact_networks(mlp, expected):
    found = hypernet.order_parameters(mlp.W, mlp.v, mlp.b, activation=mlp.activation)
    for name, value in expected.items():
        assert float(getattr(found, name)) == pytest.approx(value, abs=1e-6)


def test_rows_of_signs_have_slightly_negative_localization():
    mlp = hypernet.convexity(16, 512, key=jax.random.key(0), law="sign", activation="swish")
    found = hypernet.order_parameters(mlp.W, mlp.v, mlp.b, activation="swish")
    assert float(found.L) == pytest.approx(-0.125, abs=1e-3)


@pytest.mark.parametrize("act", ["relu", "swish"])
@pytest.mark.parametrize("name", NETWORKS)
def test_labels_survive_what_keeps_the_algorithm(name, act):
    rng = np.random.default_rng(0)
    right = total = 0
    for n in (4, 6, 12):
        W, b, v, c = arrays(NETWORKS[name](n, act))
        H = len(v)
        p, q = rng.permutation(n), rng.permutation(H)
        share = rng.uniform(0.2, 0.8, H)
        dead = rng.normal(size=(n, 5))
        versions = [
            (W[p][:, q], b[q], v[q], c),
            (np.hstack([W, W]), np.append(b, b), np.append(v * share, v * (1 - share)), c),
            (np.hstack([W, dead]), np.append(b, np.zeros(5)), np.append(v, np.zeros(5)), c),
        ]
        if act == "relu":
            scale = 10 ** rng.uniform(-1, 1, H)
            versions.append((W * scale, b * scale, v / scale, c))
        noisy = W * (1 + 0.05 * rng.normal(size=W.shape))
        x = rng.normal(size=(4000, n))
        for shaken in (noisy,):
            error = evaluate64(MLP((shaken,), (b,), v, c, act), x) - np.abs(x).sum(1)
            versions.append((shaken, b, v, c - error.mean()))
        for version in versions:
            total += 1
            right += label(*version, act) == name
    assert right >= 0.98 * total


def test_flipping_some_inputs_makes_a_mixed_pudding():
    W, b, v, c = arrays(hypernet.pudding(8, "positive"))
    W[::2] *= -1
    assert label(W, b, v, c, "swish") == "pudding_mixed"
    W, b, v, c = arrays(hypernet.double_sided(8))
    W[::2] *= -1
    assert label(W, b, v, c, "swish") == "double_sided"


def test_decoys_are_no_algorithm():
    rng = np.random.default_rng(0)
    n, H = 8, 24
    # linear, random, and a norm of half of the inputs
    assert label(np.eye(n), np.full(n, 50.0), np.ones(n), -50.0 * n, "relu") == "none"
    assert label(rng.normal(size=(n, H)), np.zeros(H), rng.normal(size=H), 0.0, "relu") == "none"
    W, b, v, c = arrays(hypernet.double_sided(n, k=1, activation="relu"))
    assert label(W, b, np.zeros_like(v), c, "relu") == "none"


def test_evidence_says_which_unit_serves_which_input():
    found = hypernet.classify(hypernet.pudding(5, "negative"))
    assert [servers[0].unit for servers in found.servers] == [0, 1, 2, 3, 4]
    assert all(servers[0].sign == 1 for servers in found.servers)
    assert found.sea == (5,)
    assert "pudding_neg" in found.evidence()


def _flax_linen(mlp):
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(jax.nn.relu(nn.Dense(mlp.W.shape[1])(x)))

    params = Net().init(jax.random.key(0), jnp.zeros((1, mlp.inputs)))
    params["params"]["Dense_0"] = {"kernel": jnp.asarray(mlp.W), "bias": jnp.asarray(mlp.b)}
    params["params"]["Dense_1"] = {"kernel": jnp.asarray(mlp.v)[:, None], "bias": jnp.asarray(mlp.c)[None]}
    return params


def _nnx(mlp):
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(mlp.inputs, mlp.W.shape[1], rngs=nnx.Rngs(0))
            self.last = nnx.Linear(mlp.W.shape[1], 1, rngs=nnx.Rngs(1))

    net = Net()
    net.first.kernel, net.first.bias = nnx.Param(jnp.asarray(mlp.W)), nnx.Param(jnp.asarray(mlp.b))
    net.last.kernel = nnx.Param(jnp.asarray(mlp.v)[:, None])
    net.last.bias = nnx.Param(jnp.asarray(mlp.c)[None])
    return net


def _equinox(mlp):
    net = eqx.nn.MLP(mlp.inputs, 1, mlp.W.shape[1], 1, activation=jax.nn.relu, key=jax.random.key(0))
    return eqx.tree_at(
        lambda m: (m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias),
        net,
        (jnp.asarray(mlp.W).T, jnp.asarray(mlp.b), jnp.asarray(mlp.v)[None], jnp.asarray(mlp.c)[None]),
    )


@pytest.mark.parametrize("form", ["linen", "nnx", "equinox", "mapping", "file"])
def test_anybodys_network_is_read(form, tmp_path):
    mlp = hypernet.pudding(6, "negative", activation="relu")
    x = np.random.default_rng(0).normal(size=(50, 6))
    if form == "file":
        hypernet.write_network(tmp_path / "net.npz", mlp)
        network, given = tmp_path / "net.npz", None
    elif form == "mapping":
        network, given = {"W": mlp.W, "v": mlp.v, "b": mlp.b, "c": mlp.c}, jax.nn.relu
    else:
        network = {"linen": _flax_linen, "nnx": _nnx, "equinox": _equinox}[form](mlp)
        given = None if form == "equinox" else "relu"
    read = hypernet.read_network(network, activation=given)
    np.testing.assert_allclose(evaluate64(read, x), np.abs(x).sum(1), atol=1e-4)
    assert hypernet.classify(network, activation=given, points=2000).label == "pudding_neg"


@pytest.mark.parametrize(
    ("network", "given", "error", "message"),
    [
        (3, "relu", TypeError, "no supported network; supported: a hypernet.MLP"),
        ({"a": 1}, "relu", TypeError, "keys"),
        ((np.eye(2), np.zeros(2), np.ones(2), 0.0), None, ValueError, "say which activation"),
        ((np.eye(2), np.zeros(2), np.ones(2), 0.0), "sine", ValueError, "expected one of swish"),
        ((np.eye(2), np.zeros(2), np.ones(3), 0.0), "relu", ValueError, r"v has shape \(3,\)"),
        ((np.eye(2), np.zeros(3), np.ones(2), 0.0), "relu", ValueError, r"b has shape \(3,\)"),
        (
            (np.eye(2) * np.nan, np.zeros(2), np.ones(2), 0.0),
            "relu",
            ValueError,
            "4 values that are not finite",
        ),
        (
            (np.ones((2, 2, 2)), np.zeros(2), np.ones(2), 0.0),
            "relu",
            ValueError,
            r"expected \(inputs, hidden\)",
        ),
        (hypernet.tournament(4), None, ValueError, "2 hidden layers"),
        ({"W": np.eye(2), "v": np.ones(2), "bias": np.ones(2)}, "relu", ValueError, "holds \\['bias'\\] too"),
        ((np.eye(2) * 1j, np.zeros(2), np.ones(2), 0.0), "relu", TypeError, "complex"),
        ((np.eye(2) * 1e200, np.zeros(2), np.ones(2), 0.0), "relu", ValueError, "would overflow"),
        (hypernet.double_sided(2), "tanh", ValueError, "but the MLP says 'swish'"),
        (
            eqx.nn.MLP(2, 1, 3, 1, final_activation=jax.nn.relu, key=jax.random.key(0)),
            None,
            ValueError,
            "final activation",
        ),
    ],
)
def test_unsupported_networks_are_named(network, given, error, message):
    with pytest.raises(error, match=message):
        hypernet.classify(network, activation=given)


def test_files_that_are_no_networks_are_named(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", A=np.eye(2))
    with pytest.raises(ValueError, match=r"nothing\.npz: no such file"):
        hypernet.classify(tmp_path / "nothing.npz")
    with pytest.raises(ValueError, match=r"text.npz is no .npz file"):
        hypernet.classify(tmp_path / "text.npz")
    with pytest.raises(ValueError, match=r"other.npz holds \['A'\]: expected W"):
        hypernet.classify(tmp_path / "other.npz")


def test_a_tournament_is_recognized():
    found = hypernet.classify_rounds(hypernet.tournament(4))
    assert found.label == "tournament"
    assert found.pairs == ((0, 1), (2, 3))
    assert found.winners > 0.999
    # absolute values first, then a comparison of all: no first round
    eye = np.eye(4)
    other = MLP(
        (np.hstack([eye, -eye]), np.vstack([eye, eye])),
        (np.zeros(8), np.zeros(4)),
        np.ones(4) / 4,
        np.float64(0),
        "relu",
    )
    assert hypernet.classify_rounds(other).label == "other" or hypernet.classify_rounds(other).nmse > 0.9
    with pytest.raises(ValueError, match="two hidden layers"):
        hypernet.classify_rounds(hypernet.double_sided(4))


def test_formulas_say_what_a_network_does():
    found = hypernet.formula(hypernet.double_sided(6, k=8.0, corrected=True), points=4000)
    assert found.unexplained < 1e-6
    assert {t.name for t in found.terms} == {"spikes+", "spikes-"}
    assert all(t.amplitude == pytest.approx(1 / 8, rel=1e-3) for t in found.terms)
    pudding = hypernet.formula(hypernet.pudding(6, [1, 1, -1, 1, -1, -1], activation="relu"), points=4000)
    assert pudding.signs == (1, 1, -1, 1, -1, -1)
    assert {t.name: round(t.amplitude * (t.slope or 1), 3) for t in pudding.terms} == {
        "spikes+": 2.0,
        "sea": -1.0,
    }
    assert "Σ relu" in pudding.text
    import sympy

    symbols = sympy.symbols("x1:7", real=True)
    x = np.random.default_rng(0).normal(size=6)
    value = pudding.expression().subs(dict(zip(symbols, x, strict=True)))
    assert float(value) == pytest.approx(np.abs(x).sum(), abs=1e-3)


def test_networks_side_by_side_are_a_sequence():
    mlps = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), hypernet.double_sided(3))
    assert len(mlps) == 2
    assert [float(mlp.W[0, 0]) for mlp in mlps] == [10, 20]
    with pytest.raises(IndexError, match="network 5 of 2"):
        mlps[5]


def test_a_target_of_a_wrong_shape_is_named():
    target = hypernet.Target("keep", lambda x: jnp.sum(jnp.abs(x), -1, keepdims=True))
    with pytest.raises(ValueError, match=r"shape \(3, 1\), expected \(3,\) for outputs=None"):
        hypernet.classify(hypernet.double_sided(5), target=target)


def test_networks_that_do_not_bend_are_no_convexity():
    linear = MLP((np.eye(4),), (np.full(4, 50.0),), np.full(4, 0.5), np.float64(-100), "relu")
    found = hypernet.classify(linear, target=hypernet.get_target("max"), points=2000)
    assert found.label != "convexity"
    assert np.isnan(found.order.L)
