"""What every method writes, in double precision from the formulas; scores, intervals, nulls, sweeps."""

import itertools

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features
from features.circles.intervention import (
    METHODS,
    Effect,
    Pairs,
    all_pairs,
    circle_writer,
    drop_off,
    effect,
    patch_values,
)

SEEDS = st.integers(0, 2**32 - 1)
LABELS = np.repeat(np.arange(7), 3)


def ring(labels, period):
    angle = 2 * np.pi * np.asarray(labels) / period
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def probe(x, target, k, centered):
    """W, P and the mean of the paper's probe."""
    mean = x.mean(0)
    W = np.linalg.svd(x - mean, full_matrices=False)[2][:k]
    coordinates = (x - mean if centered else x) @ W.T
    return W, (np.linalg.pinv(coordinates) @ target).T, mean


def writer(x, labels, period, variant, k):
    """base and plane, from the formulas of the publication, its code, and the two consistent forms."""
    target = ring(labels, period)
    if variant == "evr":
        mean = x.mean(0)
        return mean, np.linalg.pinv(target) @ (x - mean)
    W, P, mean = probe(x, target, k, variant != "paper")
    plane = np.linalg.pinv(P).T @ W
    if variant == "paper":
        return mean - (P @ W @ mean) @ plane, plane
    if variant == "code":
        Q = np.linalg.qr(P.T)[0]
        return mean - W.T @ Q @ Q.T @ W @ mean, plane
    return mean, plane


@settings(max_examples=12)
@given(SEEDS, st.sampled_from(["centered", "paper", "code", "evr"]), st.sampled_from([2, 5]))
def test_writers_are_those_of_the_formulas(seed, variant, k):
    x = np.random.default_rng(seed).normal(size=(21, 6)) + 0.5
    found = circle_writer(x, LABELS, 7, k=k, variant=variant)
    base, plane = writer(x, LABELS, 7, variant, k)
    scale = np.abs(plane).max()
    np.testing.assert_allclose(found.base, base, atol=2e-3 * max(scale, 1))
    np.testing.assert_allclose(found.plane, plane, atol=2e-3 * scale)


@settings(max_examples=15)
@given(SEEDS)
def test_the_consistent_writer_writes_what_its_probe_reads(seed):
    """Read back by the probe, x* is the point that was written."""
    x, target = np.random.default_rng(seed).normal(size=(21, 6)), ring(np.arange(7), 7)
    found = circle_writer(x, LABELS, 7, k=5)
    fit = features.fit_circle(x, LABELS, 7, k=5)
    written = np.asarray(found.base) + target @ np.asarray(found.plane)
    read = (written - np.asarray(fit.mean)) @ np.asarray(fit.W).T @ np.asarray(fit.P).T
    np.testing.assert_allclose(read, target, atol=5e-3)


@pytest.mark.parametrize("layer", [pytest.param(0, marks=pytest.mark.slow), 1])
@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_written(untrained, method, layer):
    e, pairs = untrained.encoded, all_pairs(untrained)
    x = np.asarray(untrained.alpha_states(layer), float)
    relabel = np.array([0, 3, 1, 4, 2, 6, 5])
    found = patch_values(untrained, pairs, layer, method, k=4, relabel=relabel)
    own, clean, mean = x[pairs.row], x[pairs.clean], x.mean(0)
    labels, target = relabel[e.alpha], ring(relabel[pairs.start], 7)
    W, P, _ = probe(x, ring(labels, 7), 4, True)
    Q = np.linalg.svd(P @ W, full_matrices=False)[2]
    emptied = own - (own - mean) @ Q.T @ Q
    variants = {"circle": "centered", "circle paper": "paper", "circle code": "code", "evr": "evr"}
    if method in variants:
        base, plane = writer(x, labels, 7, variants[method], 4)
        expected = base + target @ plane
    else:
        expected = {
            "none": own, "layer": clean, "average": np.broadcast_to(mean, own.shape),
            "pca": own + (clean - own) @ W.T @ W, "zero circle": emptied,
            "keep rest": emptied + target @ writer(x, labels, 7, "centered", 4)[1],
        }[method]  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=3e-3 * max(1, np.abs(expected).max()))


def test_pairs_are_all_other_starts(untrained):
    e, pairs = untrained.encoded, all_pairs(untrained)
    expected = {(i, s) for i in range(49) for s in range(7) if s != e.alpha[i]}
    assert set(zip(pairs.row.tolist(), pairs.start.tolist(), strict=True)) == expected
    assert len(pairs.row) == 294
    np.testing.assert_array_equal(e.alpha[pairs.clean], pairs.start)
    np.testing.assert_array_equal(e.beta[pairs.clean], e.beta[pairs.row])
    np.testing.assert_array_equal(pairs.target, (pairs.start + e.beta[pairs.row] + 1) % 7)


def some_pairs(rng, n):
    row = rng.integers(0, 49, n)
    return Pairs(row, rng.integers(0, 7, n), row, rng.integers(0, 7, n))


@given(SEEDS, st.integers(1, 40))
def test_scores_are_means_over_patches(untrained, seed, n):
    rng = np.random.default_rng(seed)
    pairs, logits = some_pairs(rng, n), rng.normal(size=(n, 7))
    gaps = [logits[i, untrained.encoded.gamma[pairs.row[i]]] - logits[i, pairs.target[i]] for i in range(n)]
    found = effect(untrained, pairs, logits)
    assert found.logit_difference == pytest.approx(np.mean(gaps)) and found.patches == n
    assert found.success == np.mean([row.argmax() == t for row, t in zip(logits, pairs.target, strict=True)])
    assert np.isnan(found.error) == (n == 1)
    # A constant added to all logits of a patch is nothing to a difference.
    moved = effect(untrained, pairs, logits + rng.normal(size=(n, 1)))
    assert moved.logit_difference == pytest.approx(found.logit_difference)
    assert moved.success == found.success


def test_intervals_cover_in_96_of_100_cases(untrained):
    """Student's interval of the mean, of twelve normal differences whose mean is known."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(500):
        pairs = some_pairs(rng, 12)
        pairs = pairs._replace(target=(untrained.encoded.gamma[pairs.row] + 1) % 7)
        found = effect(untrained, pairs, rng.normal(size=(12, 7)))
        covered.append(abs(found.logit_difference) <= found.error)
    assert np.mean(covered) == pytest.approx(0.96, abs=4 * np.sqrt(0.96 * 0.04 / 500))


@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_drop_off_is_the_layer_after_the_last_success(signs, random):
    rows = list(enumerate(signs))
    random.shuffle(rows)  # the table's own order does not matter
    table = {layer: {"layer": Effect(value, 0.1, 0.5, 10)} for layer, value in rows}
    after = max((layer for layer, value in enumerate(signs) if value < 0), default=-1) + 1
    assert drop_off(table) == (after if after < len(signs) else None)


def test_no_patch_is_the_models_own_answer(untrained):
    e, pairs = untrained.encoded, all_pairs(untrained)
    for layer in (0, 1):
        gap = untrained.logits[pairs.row, e.gamma[pairs.row]] - untrained.logits[pairs.row, pairs.target]
        assert features.intervene(untrained, layer, "none").logit_difference == pytest.approx(
            gap.mean(), abs=1e-5
        )
    # All of a clean prompt's state at the embedding makes it that prompt.
    clean = untrained.logits[pairs.clean, e.gamma[pairs.row]] - untrained.logits[pairs.clean, pairs.target]
    assert features.intervene(untrained, 0, "layer").logit_difference == pytest.approx(clean.mean(), abs=1e-5)


def test_a_sweep_is_its_interventions(untrained):
    seen = []
    table = features.layer_sweep(
        untrained, [1, 0], ("layer", "evr"), on_layer=lambda layer, _: seen.append(layer)
    )
    assert seen == [1, 0] == list(table)
    for layer, method in itertools.product((0, 1), ("layer", "evr")):
        chex.assert_trees_all_close(table[layer][method], features.intervene(untrained, layer, method))


def test_a_null_relabels_every_circle_but_the_true_one(untrained, monkeypatch):
    from features.circles import intervention

    orders = []
    whole = intervention.intervene

    def counted(cached, layer, method="circle", **kwargs):
        orders.append(kwargs.get("relabel"))
        return (
            Effect(float(-len(orders) % 5), 0.1, 0.5, 10) if len(orders) > 1 else whole(cached, layer, method)
        )

    monkeypatch.setattr(intervention, "intervene", counted)
    null = features.causal_null(untrained, 0, "evr", relabellings=300)
    assert orders[0] is None and len(orders) == 301 == len(null.null) + 1
    for order in orders[1:]:
        assert sorted(order.tolist()) == list(range(7))
        assert set((np.roll(order, -1) - order) % 7) not in ({1}, {6})
    assert null.p_value == pytest.approx((1 + (null.null <= null.value).sum()) / 301)


@given(SEEDS, st.sampled_from([1, 7, 24]))
def test_points_off_the_circle_are_read_by_their_sector(untrained, seed, angles):
    """Agreement, margins and expectations from the logits that the grid of points was given."""
    rng = np.random.default_rng(seed)
    prompts, radii = rng.choice(49, 3, replace=False), [0.0, 1.5]
    logits = rng.normal(size=(3, 2, angles, 7)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        from features.circles import intervention

        patch.setattr(intervention, "patched_logits", lambda *args, **_: logits.reshape(-1, 7))
        found = features.polar_sweep(
            untrained, 0, writer=WRITER, prompts=prompts.tolist(), radii=radii, angles=angles
        )
    np.testing.assert_array_equal(found.answer, logits.argmax(-1))
    top = np.sort(logits, -1)
    np.testing.assert_array_equal(found.best, top[..., -1])
    np.testing.assert_allclose(found.margin, top[..., -1] - top[..., -2])
    beta = untrained.encoded.beta[prompts] + 1
    for p, j in itertools.product(range(3), range(angles)):
        step = np.abs(np.exp(2j * np.pi * (np.arange(7) / 7 - j / angles)) - 1)
        near = np.flatnonzero(step <= step.min() + 1e-9)  # two sectors touch where there is a tie
        assert (found.expected[p, 0, j] - beta[p]) % 7 in near
    expected = np.broadcast_to(found.expected, found.answer.shape)
    np.testing.assert_allclose(found.agreement, (found.answer == expected).mean((0, 2)))


WRITER = circle_writer(np.random.default_rng(0).normal(size=(21, 8)), LABELS, 7, k=2)


@pytest.mark.slow
def test_a_sweep_at_the_circle_is_the_intervention(untrained):
    """Radius one and the seven angles write what `circle` writes; radius nought writes the mean."""
    found = features.polar_sweep(untrained, 1, prompts=[3], radii=[0, 1], angles=7, k=4)
    w = circle_writer(untrained.alpha_states(1), untrained.encoded.alpha, 7, k=4)
    values = w.base[None] + jnp.asarray(ring(np.arange(7), 7), jnp.float32) @ w.plane
    logits = features.circles.prompting.patched_logits(untrained, 1, np.full(7, 3), values)
    np.testing.assert_array_equal(found.answer[0, 1], logits.argmax(1))
    np.testing.assert_allclose(found.best[0, 1], logits.max(1), atol=1e-5)
    assert len(set(found.answer[0, 0].tolist())) == 1


def test_mistakes_are_named(untrained):
    pairs = all_pairs(untrained)
    for make, message in (
        (lambda: patch_values(untrained, pairs, 0, "layers"), "method='layers': expected one of none, layer"),
        (lambda: patch_values(untrained, pairs, 0, "pca", k=0), "k=0: expected at least one"),
        (lambda: patch_values(untrained, pairs, 3, "layer"), "layer=3: expected 0 to 2"),
        (lambda: features.intervene(untrained, 2, "layer"), "layer=2: expected 0 to 1"),
        (lambda: features.causal_null(untrained, 0, "average"), "does not use labels"),
        (lambda: features.causal_null(untrained, 0, relabellings=0), "relabellings=0"),
        (lambda: features.causal_null(
            untrained._replace(encoded=untrained.encoded._replace(period=4)), 0), "period 4"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make()
