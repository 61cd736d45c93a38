"""The calendar's problems, targets and losses in plain numpy."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from features.synthetic import calendar_model
from features.synthetic.calendar_model import (
    UNITS,
    VOCABULARY,
    Calendar,
    CalendarConfig,
    init_state,
    last_logits,
    problems,
    run_steps,
    targets,
)

SMALL = CalendarConfig(width=8, mlp_width=8, steps=4, num_layers=1)
FIRST = {0: (0, 7), 1: (7, 12)}  # names of a unit: where they begin, and how many


@given(st.integers(0, 2**31 - 1), st.floats(0.02, 0.98))
def test_all_questions_are_there_and_each_unit_is_split_by_itself(seed, share):
    found = problems(share, seed=seed)
    asked = set(zip(found.unit.tolist(), found.alpha.tolist(), found.beta.tolist(), strict=True))
    assert asked == {(u, a, b) for u, (_, m) in FIRST.items() for a in range(m) for b in range(1, m + 1)}
    assert len(found.gamma) == 193
    for unit, (first, m) in FIRST.items():
        here = found.unit == unit
        np.testing.assert_array_equal(found.gamma[here], (found.alpha + found.beta)[here] % m)
        assert found.train[here].sum() == round(share * m * m)
        np.testing.assert_array_equal(found.tokens[here, 3], first + found.alpha[here])
        np.testing.assert_array_equal(found.tokens[here, 0], 18 + found.beta[here])
    assert len({tuple(row) for row in found.tokens.tolist()}) == 193
    chex.assert_trees_all_equal(problems(share, seed=seed), found)


@given(st.floats(0, 20) | st.none())
def test_targets_are_circles_around_the_answer(kappa):
    found = problems(0.9)
    q = targets(found, kappa)
    for row in (0, 30, 48, 49, 100, 192):
        first, m = FIRST[int(found.unit[row])]
        gap = np.arange(m) - found.gamma[row]
        weight = (gap == 0) if kappa is None else np.exp(kappa * np.cos(2 * np.pi * gap / m))
        expected = np.zeros(VOCABULARY)
        expected[first : first + m] = weight / weight.sum()
        np.testing.assert_allclose(q[row], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("names_only", [True, False])
def test_the_first_loss_is_the_cross_entropy_of_new_weights(names_only):
    import dataclasses

    config = dataclasses.replace(SMALL, names_only=names_only)
    state, found = init_state(config, key=jax.random.key(0)), problems(0.9)
    goal = targets(found, 2.0)
    logits = np.asarray(last_logits(state.decoder, jnp.asarray(found.tokens)), float)
    whole = features.forward(state.decoder, found.tokens)[:, -1]
    np.testing.assert_allclose(logits, whole, atol=1e-5)
    if names_only:
        of_days = found.unit == 0
        word = np.arange(VOCABULARY)
        named = np.where(of_days[:, None], word < 7, (word >= 7) & (word < 19))
        logits = np.where(named, logits, -1e9)
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    expected = -np.where(goal > 0, goal * logs, 0).sum(1).mean()
    after, losses = run_steps(state, jnp.asarray(found.tokens), jnp.asarray(goal), config=config, steps=2)
    assert float(losses[0]) == pytest.approx(expected, rel=1e-4) and losses.shape == (2,)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(after.decoder, eqx.is_array)))
    assert not np.array_equal(after.decoder.embedding, state.decoder.embedding)


@pytest.mark.slow
def test_chunks_do_not_show_in_a_training():
    seen = []
    parts = features.train_calendar(
        SMALL, key=jax.random.key(3), chunk=2, on_chunk=lambda done, losses: seen.append((done, len(losses)))
    )
    whole = features.train_calendar(SMALL, key=jax.random.key(3), chunk=50)
    assert seen == [(2, 2), (4, 2)]
    chex.assert_trees_all_close(parts.losses, whole.losses, rtol=1e-5)
    chex.assert_trees_all_close(parts.decoder, whole.decoder, atol=1e-5)
    chex.assert_trees_all_equal(parts.problems, whole.problems)


def test_accuracy_is_the_share_of_right_names(untrained, monkeypatch):
    found = problems(0.9)
    calendar = Calendar(untrained.decoder, found, np.zeros(1, np.float32))
    logits = np.random.default_rng(0).normal(size=(193, VOCABULARY)).astype(np.float32)
    place = {tuple(row): number for number, row in enumerate(found.tokens.tolist())}
    told = lambda _, tokens: jnp.asarray(logits[[place[tuple(row)] for row in tokens.tolist()]])  # noqa: E731
    monkeypatch.setattr(calendar_model, "last_logits", told)
    for number, (unit, (first, m)) in enumerate(zip(UNITS, FIRST.values(), strict=True)):
        right = logits[:, first : first + m].argmax(1) == found.gamma
        here = found.unit == number
        assert calendar.accuracy(unit) == pytest.approx(right[here].mean())
        assert calendar.accuracy(unit, held_out=True) == pytest.approx(right[here & ~found.train].mean())
        assert calendar.accuracy(unit, held_out=False) == pytest.approx(right[here & found.train].mean())
        encoded = calendar.encoded(unit)
        assert encoded.period == m and (encoded.tokens[:, encoded.column] == first + encoded.alpha).all()
        np.testing.assert_array_equal((encoded.alpha + encoded.beta + 1) % m, encoded.gamma)
        np.testing.assert_array_equal(encoded.answers, first + np.arange(m))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_of_all_or_nothing_is_refused(share):
    with pytest.raises(ValueError, match=f"train_share={share}: expected between 0 and 1"):
        CalendarConfig(train_share=share)
