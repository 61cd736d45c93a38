"""Numbers recorded from the authors' implementation."""

import numpy as np
import pytest

from benchmarks import compressarc_parity as parity
from tests.conftest import DATA, SHARED


def beyond(checks):
    return [check for check in checks if not check.ok]


@pytest.fixture(scope="module")
def double():
    """The recorded puzzle in double precision, evaluated once: outputs, terms and gradients."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        golden = parity.load(DATA / "f9012d9b.npz", jnp.float64)
        compiled = parity.value_and_grad(golden)
        noise = parity.noise_of(golden, "zero", jnp.float64)
        (_, (output, terms)), gradients = compiled(golden.params, noise, jnp.int32(0))
    # outside the block: what follows in this module is not all in double precision
    return golden, output, terms, gradients, compiled


@pytest.fixture(scope="module")
def single():
    """The same in single precision: one program for all tests of this puzzle."""
    import jax.numpy as jnp

    golden = parity.load(DATA / "f9012d9b.npz", jnp.float32)
    return golden, parity.value_and_grad(golden)


def test_step_zero_in_double_precision(double):
    import jax

    golden, output, terms, gradients, _ = double
    with jax.enable_x64(True):
        checks = parity.compare(golden, output, terms, gradients, "zero_f64", 64)
    assert len(checks) >= 7
    assert not beyond(checks)


@pytest.mark.slow
def test_recorded_run_in_double_precision(double):
    import jax

    golden, _, _, _, compiled = double
    with jax.enable_x64(True):
        checks = parity.recorded_run(golden, compiled, 64)
    assert [check.bound for check in checks] == [1e-9, 1e-3, 0.03, 0.10]
    assert not beyond(checks)


def test_76140_weights_have_a_path_to_the_loss(double):
    import jax

    golden, _, _, gradients, _ = double
    with jax.enable_x64(True):
        own = parity.named(gradients, golden.static.shape)
    weights = {n: g for n, g in own.items() if not n.startswith(("post_mean", "post_lca"))}
    without = sum(g.size for g in weights.values() if not np.any(g))
    assert sum(g.size for g in weights.values()) - without == 76_140
    assert without == 7_488


@pytest.mark.slow
def test_step_zero_in_single_precision(single):
    import jax.numpy as jnp

    golden, compiled = single
    (_, (output, terms)), gradients = compiled(
        golden.params, parity.noise_of(golden, "zero", jnp.float32), jnp.int32(0)
    )
    # Held against the double-precision record: float32's own error is part of what is allowed.
    # Gradients are not: without noise float32 itself gets some of them wrong by a percent.
    checks = parity.compare(golden, output, terms, gradients, "zero_f64", 32)
    assert len(checks) >= 7
    assert not beyond(checks)


@pytest.mark.skipif(not SHARED.exists(), reason="the full golden files are not here")
@pytest.mark.parametrize("bits", [pytest.param(32, marks=pytest.mark.slow), 64])
def test_step_zero_with_the_recorded_noise(bits, single, double):
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(bits == 64):
        golden = parity.load(SHARED / "f9012d9b.npz", jnp.float64 if bits == 64 else jnp.float32)
        compiled = double[-1] if bits == 64 else single[-1]
        checks = parity.step_zero(golden, compiled, "noise", bits)
    assert any("gradient norms" in check.name for check in checks)
    assert not beyond(checks)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the full golden files are not here")
def test_recorded_run_in_single_precision(single):
    golden, compiled = parity.load(SHARED / "f9012d9b.npz"), single[-1]
    assert not beyond(parity.later_terms(golden, compiled))
    assert not beyond(parity.recorded_run(golden, compiled, 32))
