import jax
import numpy as np
import pytest

from compressarc import datasets
from compressarc.multitensor import DIRECTED_WIDTH, TYPES
from compressarc.network.inputs import signature
from compressarc.network.parameter_names import from_named, named
from compressarc.network.parameters import init_params


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "posterior"), [("f9012d9b", 110_984), ("272f95fa", 575_032), ("3618c87e", None)]
)
def test_parameter_counts(name, posterior):
    static = signature(datasets.load_puzzle(name).canvas)
    params = jax.eval_shape(lambda: init_params(static.shape, key=jax.random.key(0)))
    latents = count((params.posterior.mean, params.posterior.local))
    assert count(params) - latents == 83_628
    expected = 2 * 4 * sum(int(np.prod(static.shape.axes(code))) for code in TYPES)
    assert latents == expected
    if posterior is not None:
        assert latents == posterior


def test_initialization_has_the_specified_scales():
    static = signature(datasets.load_puzzle("6d75e8bb").canvas)
    params = init_params(static.shape, key=jax.random.key(1))
    assert np.std(params.posterior.mean.plane_directed) == pytest.approx(0.01, rel=0.02)
    assert not np.any(params.posterior.local.plane_directed) and not np.any(params.posterior.target)
    line = params.layers.direction_line
    assert np.std(line) == pytest.approx(DIRECTED_WIDTH**-0.5, rel=0.03)
    assert np.std(params.layers.share_up.into.plain) == pytest.approx(16**-0.5, rel=0.05)
    by_name = named(params, static.shape)
    assert np.std(by_name["layer0/softmax_out/11111"]) == pytest.approx(30**-0.5, rel=0.2)
    np.testing.assert_array_equal(by_name["head_w"][:, 0], by_name["head_w"][:, 1])
    assert not np.array_equal(by_name["head_b"][0], by_name["head_b"][1])


def test_structured_names_round_trip():
    static = signature(datasets.load_puzzle("6f8cd79b").canvas)
    params = init_params(static.shape, key=jax.random.key(2))
    again = from_named(named(params, static.shape), static.shape)
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_a_missing_weight_is_named():
    static = signature(datasets.load_puzzle("6f8cd79b").canvas)
    names = named(init_params(static.shape, key=jax.random.key(2)), static.shape)
    del names["layer2/shift_in/10111"]
    with pytest.raises(KeyError, match="layer2/shift_in/10111"):
        from_named(names, static.shape)


def test_same_key_same_parameters_and_other_key_others():
    static = signature(datasets.load_puzzle("6f8cd79b").canvas)
    a, b, c = (init_params(static.shape, key=jax.random.key(k)) for k in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a.heads.mask_weight, c.heads.mask_weight)
