"""Targets: values by plain NumPy, variances by closed forms and quadrature, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import hypernet
from hypernet.targets import TARGETS, Target, get_target

VALUES = {
    "l1": lambda x: np.abs(x).sum(-1),
    "l2": lambda x: np.linalg.norm(x, axis=-1),
    "linf": lambda x: np.abs(x).max(-1),
    "max": lambda x: x.max(-1),
    "sum-relu": lambda x: np.maximum(x, 0).sum(-1),
    "huber": lambda x: np.where(np.abs(x) <= 1, x**2 / 2, np.abs(x) - 0.5).sum(-1),
    "sum-squares": lambda x: (x**2).sum(-1),
    "parity": lambda x: x.prod(-1),
    "sort": lambda x: np.sort(x, -1),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_their_formulas(name):
    target = get_target(name)
    x = np.random.default_rng(0).normal(size=(40, 3)) * np.logspace(-3, 1, 40)[:, None]
    x[0] = 0
    x[1] = x[1, 0]  # equal inputs
    x[2] = [1, -1, 1]
    with jax.enable_x64(True):
        np.testing.assert_allclose(target.value(jnp.asarray(x)), VALUES[name](x), rtol=1e-13, atol=1e-15)


def test_every_target_of_the_library_has_a_name_and_the_modular_ones_are_made_once():
    assert set(TARGETS) == {*VALUES, "modular-addition-3", "modular-addition-5"}
    assert hypernet.modular_addition(5) is TARGETS["modular-addition-5"]
    assert all(get_target(name).name == name for name in TARGETS)


@pytest.mark.parametrize("modulus", [2, 5])
def test_modular_sums_are_those_of_whole_numbers(modulus):
    target = hypernet.modular_addition(modulus)
    middle, std = (modulus - 1) / 2, np.std(np.arange(modulus))
    digits = np.stack(np.meshgrid(*[np.arange(modulus)] * 3), -1).reshape(-1, 3)
    found = np.asarray(target.value(jnp.asarray((digits - middle) / std, jnp.float32)))
    np.testing.assert_allclose(found * std + middle, digits.sum(-1) % modulus, atol=1e-5)
    # over all points the answer has the variance that is claimed, and so have drawn inputs
    assert found.var() == pytest.approx(target.variance_of(3), rel=1e-5)
    x = np.asarray(target.sample(jax.random.key(0), 2000, 3)) * std + middle
    assert set(np.round(x).ravel()) == set(range(modulus))
    np.testing.assert_allclose(x, np.round(x), atol=1e-5)


# of two and three standard normals: the textbook's variances of extremes
@pytest.mark.parametrize(
    ("name", "n", "variance"),
    [
        ("max", 1, 1.0),
        ("max", 2, 1 - 1 / np.pi),
        ("max", 3, 1 + np.sqrt(3) / (2 * np.pi) - 9 / (4 * np.pi)),
        ("sort", 1, 1.0),
        ("sort", 2, 2 - 2 / np.pi),
        ("linf", 1, 1 - 2 / np.pi),
        ("linf", 2, 1 + 2 / np.pi - (2 / np.sqrt(np.pi)) ** 2),
        ("l2", 1, 1 - 2 / np.pi),
        ("l2", 2, 2 - np.pi / 2),
        ("l2", 3, 3 - 8 / np.pi),
        ("l1", 7, 7 - 14 / np.pi),
        ("sum-relu", 4, 2 - 2 / np.pi),
        ("sum-squares", 3, 6.0),
        ("parity", 9, 1.0),
    ],
)
def test_variances_are_the_closed_forms(name, n, variance):
    assert get_target(name).variance_of(n) == pytest.approx(variance, rel=1e-7)


def test_the_variance_of_huber_by_another_quadrature():
    def moment(power):
        huber = VALUES["huber"]
        value = lambda t: stats.norm.pdf(t) * huber(np.array([t])) ** power  # noqa: E731
        return 2 * (integrate.quad(value, 0, 1)[0] + integrate.quad(value, 1, np.inf)[0])

    assert get_target("huber").variance_of(3) == pytest.approx(3 * (moment(2) - moment(1) ** 2), rel=1e-7)


@pytest.mark.parametrize("n", [1, 2, 5, 17, 40])
def test_extremes_vary_less_with_more_inputs_and_sums_in_proportion(n):
    for name in ("max", "linf"):
        assert get_target(name).variance_of(n + 1) < get_target(name).variance_of(n)
    assert get_target("l2").variance_of(n) < get_target("l2").variance_of(n + 1) < 0.5
    for name in ("l1", "huber", "sum-relu", "sum-squares"):
        assert get_target(name).variance_of(n) == pytest.approx(n * get_target(name).variance_of(1))
    # order statistics vary less than the inputs they are made of
    assert 0 < get_target("sort").variance_of(n) <= n + 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Target("a", lambda x: x.sum(-1), smallest=0), "smallest=0: must be at least 1"),
        (lambda: Target("a", lambda x: x.sum(-1), input_std=0.0), "input_std=0.0: must be positive"),
        (lambda: Target("a", lambda x: x.sum(-1), input_std=float("inf")), "input_std=inf: must be positive"),
        (lambda: Target("a", lambda x: 0 * x.sum(-1)).variance_of(2), "has variance 0.0 for n=2"),
        (
            lambda: Target("a", lambda x: x.sum(-1), variance=lambda n: -1.0).variance_of(2),
            "has variance -1.0",
        ),
        (lambda: Target("a", lambda x: x.sum(-1) / 0).variance_of(2), "has variance"),
        (lambda: get_target("l1").variance_of(0), "n=0: must be at least 1"),
        (lambda: get_target("l1").check_size(2.5), "n=2.5: expected a whole number"),
        (
            lambda: Target(
                "a", lambda x: x.sum(-1), sample=lambda key, count, n: jnp.zeros((n, count))
            ).check_size(2),
            r"sample\(key, 3, 2\) has shape \(2, 3\), expected \(3, 2\)",
        ),
        (lambda: Target("a", lambda x: x, outputs=2).check_size(3), r"expected \(3, 2\) for outputs=2"),
        (lambda: get_target("nothing at all"), "unknown target 'nothing at all' Known: l1"),
        (lambda: get_target("parrity"), "did you mean parity"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_targets_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_estimated_variance_is_that_of_the_samples_and_sums_over_outputs():
    wide = Target("wide", lambda x: jnp.stack([x[..., 0], 2 * x[..., 1]], -1), outputs=2)
    assert wide.variance_of(2) == pytest.approx(5, rel=0.02)
    vector = Target("same", lambda x: x, outputs="inputs")
    assert vector.variance_of(3) == pytest.approx(3, rel=0.02)
