"""Prompts as tokens, and one run that serves every patch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from features.circles.concepts import CONCEPTS, Concept, Task
from features.circles.prompting import encode_task, pad_left, patched_logits, run_prompts

DAYS = CONCEPTS["days"]
ASKED = Task("asked", Concept("few", DAYS.members[:6]), "Today is {alpha}, it is")


@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(-3, 0)
)
def test_padding_on_the_left_loses_nothing(rows, fill):
    tokens, mask = pad_left(rows, fill)
    assert tokens.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)] == rows
    assert (tokens[~mask] == fill).all()
    assert (np.diff(mask.astype(int), axis=1) >= 0).all()  # padding stands on the left only


@pytest.mark.parametrize("spelling", ["space", "bare"])
def test_prompts_and_answers_are_the_tokens_of_their_words(tiny_model, spelling):
    found = encode_task(tiny_model, ASKED, spelling)
    words = tiny_model.tokenizer
    for row, prompt in zip(found.tokens, ASKED.prompts(), strict=True):
        assert words.decode(row.tolist()) == prompt.text
        assert words.word(int(row[found.column])) == " " + ASKED.concept.members[prompt.alpha]
    space = " " if spelling == "space" else ""
    assert [words.word(int(i)) for i in found.answers] == [space + name for name in ASKED.concept.members]
    assert found.period == 6 and ((found.alpha + 1) % 6 == found.gamma).all()


def test_a_name_at_the_beginning_stands_without_a_space(tiny_model):
    found = encode_task(tiny_model, Task("t", ASKED.concept, "{alpha} is"))
    assert found.column == 0 and tiny_model.tokenizer.word(int(found.tokens[0, 0])) == "Monday"


def test_prompts_that_cannot_be_lined_up_are_refused(tiny_model):
    longer = Task("t", ASKED.concept, "{alpha} on {beta}", (1, 2), ("it", "it is"))
    with pytest.raises(ValueError, match=r"alpha stands \[3, 4\] tokens from the end; expected one place"):
        encode_task(tiny_model, longer)
    with pytest.raises(ValueError, match="are the same token: the tokenizer does not know these names"):
        encode_task(tiny_model, Task("t", Concept("c", ("Monday", "Juno", "Mars")), "Today is {alpha}"))
    with pytest.raises(ValueError, match="the token of 'Monday' is not in 'Today isMonday'"):
        encode_task(tiny_model, Task("t", ASKED.concept, "Today is{alpha}"))


@pytest.fixture(scope="module")
def asked(tiny_model):
    return features.run_task(tiny_model, ASKED)


@pytest.mark.slow
def test_one_run_keeps_the_states_and_answers_of_a_plain_one(tiny_model, asked):
    e = asked.encoded
    states = features.residuals(tiny_model.decoder, e.tokens)
    logits = features.forward(tiny_model.decoder, e.tokens)[:, -1]
    np.testing.assert_allclose(asked.logits, np.asarray(logits)[:, e.answers], atol=1e-5)
    for layer in range(3):
        np.testing.assert_allclose(asked.alpha_states(layer), states[layer][:, e.column], atol=1e-5)
        np.testing.assert_allclose(asked.last_states(layer), states[layer][:, -1], atol=1e-5)
    np.testing.assert_array_equal(asked.correct, np.asarray(logits)[:, e.answers].argmax(1) == e.gamma)


@pytest.mark.slow
def test_padding_does_not_change_a_run(tiny_model, asked):
    e = asked.encoded
    tokens = np.concatenate([np.full((6, 2), 5, np.int32), e.tokens], 1)
    mask = np.arange(tokens.shape[1])[None].repeat(6, 0) >= 2
    padded = run_prompts(tiny_model.decoder, e._replace(tokens=tokens, mask=mask, column=e.column + 2))
    np.testing.assert_allclose(padded.logits, asked.logits, atol=1e-5)
    rows, values = np.array([0, 3]), jax.random.normal(jax.random.key(0), (2, 16))
    a, b = (patched_logits(cached, 1, rows, values) for cached in (padded, asked))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_patch_with_its_own_state_changes_nothing_and_batches_do_not_matter(untrained):
    rng = np.random.default_rng(0)
    rows = rng.permutation(49)
    for layer in (0, 1):
        own = untrained.alpha_states(layer)[rows]
        np.testing.assert_allclose(
            patched_logits(untrained, layer, rows, own), untrained.logits[rows], atol=1e-5
        )
    values = jnp.asarray(rng.normal(size=(49, 8)), jnp.float32)
    whole = patched_logits(untrained, 1, rows, values)
    # Nine go in two batches, the second of which is filled up.
    np.testing.assert_allclose(
        patched_logits(untrained, 1, rows[:9], values[:9], batch=7), whole[:9], atol=1e-5
    )
    order = rng.permutation(49)
    np.testing.assert_allclose(
        patched_logits(untrained, 1, rows[order], values[order]), whole[order], atol=1e-5
    )
    with pytest.raises(ValueError, match="layer=-1: expected 0 to 1"):
        patched_logits(untrained, -1, rows, values)
