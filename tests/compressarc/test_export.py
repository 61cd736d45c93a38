"""The hot loop lowers for every platform, and keeps to itself while it runs."""

import jax
import jax.numpy as jnp
import pytest

import compressarc
from compressarc.solver import step as solver
from tests.compressarc import zoo


@pytest.fixture(scope="module")
def lowered():
    program = compressarc.SolveConfig(chunk=5).program
    static, data = compressarc.signature(zoo.UNKNOWN.canvas), compressarc.grids(zoo.UNKNOWN.canvas)

    def chunk(run, data, count, key):
        return solver._chunk(run, data, count, jax.random.wrap_key_data(key), static, program)

    run = jax.eval_shape(lambda: solver.init(static, program, key=jax.random.key(0)))
    arguments = (run, data, jnp.int32(5), jax.random.key_data(jax.random.key(0)))
    return jax.export.export(jax.jit(chunk), platforms=["cpu", "cuda", "tpu"])(*arguments)


def test_the_chunk_lowers_for_cpu_cuda_and_tpu(lowered):
    assert set(lowered.platforms) == {"cpu", "cuda", "tpu"}


def test_no_callback_no_double_precision_no_dynamic_shape(lowered):
    text = lowered.mlir_module()
    assert "callback" not in text and "f64" not in text and "tensor<?x" not in text
