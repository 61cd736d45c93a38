"""In what matrix products are made, and that few bits there are few bits in the result."""

import contextlib
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
    assert some + most == exact and most > 100 and some > 30  # averages and tables stay exact


@pytest.mark.parametrize("set_to", [None, "float32"])
@pytest.mark.parametrize(
    ("products", "platform", "expected"),
    [("auto", "cuda", None), ("auto", "cpu", None), ("auto", "tpu", "HIGHEST"), ("fast", "tpu", "DEFAULT"),
     ("fast", "cuda", "DEFAULT"), ("float32", "cuda", "HIGHEST")],
)  # fmt: skip
def test_what_is_left_open_is_as_jax_is_set_to(products, platform, expected, set_to):
    program = compressarc.SolveConfig(products=products).program.on(platform)
    assert program.on("another").products == program.products

    def product(a):
        with step._products(program):
            return a @ a

    with jax.default_matmul_precision(set_to) if set_to else contextlib.nullcontext():
        text = jax.jit(product).lower(jnp.ones((2, 2))).as_text()
    assert f"precision = [{expected or ('HIGHEST' if set_to else 'DEFAULT')}" in text


def test_products_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="products='bfloat16': expected one of auto, float32, fast"):
        compressarc.SolveConfig(products="bfloat16")  # type: ignore


@pytest.fixture(scope="module")
def exact():
    golden = parity.load(DATA / "f9012d9b.npz", jnp.float32)
    return golden, *fewer.losses(golden, fewer.MANTISSA["float32"], 3)


@pytest.mark.slow
@pytest.mark.parametrize(("products", "loss", "gradient"), [("TF32", 1e-5, 1e-2), ("bfloat16", 1e-4, 1e-2)])
def test_a_step_survives_products_of_fewer_bits(exact, products, loss, gradient):
    """With averages in so few bits, too, the loss would be off by 4e-4. Gradients hold much that is rounding."""
    golden, expected, length = exact
    found, other = fewer.losses(golden, fewer.MANTISSA[products], 3)
    assert found[0] == pytest.approx(expected[0], rel=loss) and other == pytest.approx(length, rel=gradient)
    np.testing.assert_allclose(found, expected, rtol=2e-3)
