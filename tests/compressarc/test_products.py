"""In what matrix products are made, and that few bits there are few bits in the result."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compressarc
from benchmarks import compressarc_parity as parity
from benchmarks import compressarc_products as fewer
from compressarc.solver import step
from tests.compressarc import zoo
from tests.conftest import DATA


def lowered(products, platform, **settings):
    canvas = zoo.SAME.canvas
    static, data = compressarc.signature(canvas), compressarc.grids(canvas)
    program = compressarc.SolveConfig(products=products).program.on(platform)
    run = jax.eval_shape(lambda: step.init(static, program, key=jax.random.key(0)))
    function = jax.jit(
        lambda run, data, key: step.step(run, data, static, program, key=jax.random.wrap_key_data(key))
    )
    traced = function.trace(run, data, jax.ShapeDtypeStruct((2,), jnp.uint32))
    return traced.lower(lowering_platforms=(platform,)).as_text()


def precisions(text):
    """Of all products: how many are in full precision, and how many as the device likes."""
    found = re.findall(r"stablehlo.dot_general .*?precision = \[(\w+), ", text)
    assert len(found) > 300
    return found.count("HIGHEST"), found.count("DEFAULT")


def test_products_are_float32_on_tpus_unless_asked_to_be_fast():
    exact, fast = precisions(lowered("auto", "tpu"))
    assert fast == 0
    some, most = precisions(lowered("fast", "tpu"))
    assert some + most == exact and most > some > 30  # averages stay exact
    with jax.default_matmul_precision("float32"):  # whatever JAX is set to
        assert precisions(lowered("fast", "tpu")) == (some, most)


def test_elsewhere_products_are_as_jax_is_set_to():
    assert precisions(lowered("auto", "cuda")) == precisions(lowered("fast", "cuda"))
    with jax.default_matmul_precision("float32"):
        assert precisions(lowered("auto", "cuda"))[1] == 0
    assert precisions(lowered("float32", "cuda"))[1] == 0


def test_products_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="products='bfloat16': expected one of auto, float32, fast"):
        compressarc.SolveConfig(products="bfloat16")  # type: ignore


@pytest.mark.slow
@pytest.mark.parametrize(("products", "loss", "gradient"), [("TF32", 1e-5, 1e-2), ("bfloat16", 1e-4, 1e-2)])
def test_a_step_survives_products_of_fewer_bits(products, loss, gradient):
    """With averages in so few bits, too, the loss would be off by 4e-4. Gradients hold much that is rounding."""
    golden = parity.load(DATA / "f9012d9b.npz", jnp.float32)
    (exact, length), (found, other) = (
        fewer.losses(golden, fewer.MANTISSA[p], 3) for p in ("float32", products)
    )
    assert found[0] == pytest.approx(exact[0], rel=loss) and other == pytest.approx(length, rel=gradient)
    np.testing.assert_allclose(found, exact, rtol=2e-3)
