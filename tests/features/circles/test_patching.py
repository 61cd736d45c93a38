"""Activation patching, against whole forwards with one edit each."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from features.circles.patching import draw_pairs, head_outputs
from features.lm.decoder import record
from features.lm.edits import Patch


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_pairs_share_one_thing_and_not_the_answer(untrained, seed, per_kind):
    e = untrained.encoded
    pairs = draw_pairs(e, per_kind=per_kind, seed=seed)
    drawn = list(zip(pairs.clean.tolist(), pairs.corrupted.tolist(), strict=True))
    assert len(drawn) == len(set(drawn)) == 2 * per_kind
    for number, (i, j) in enumerate(drawn):
        assert (e.alpha[i] == e.alpha[j]) == (number < per_kind)
        assert (e.beta[i] == e.beta[j]) == (number >= per_kind)
        assert e.gamma[i] != e.gamma[j]


def test_there_are_as_many_pairs_as_there_are(untrained):
    assert len(draw_pairs(untrained.encoded, per_kind=10**6).clean) == 2 * 49 * 6  # any other beta, or alpha


@pytest.fixture(scope="module")
def right(untrained):
    """The answers that these weights prefer, called right; pairs whose answers differ."""
    e = untrained.encoded
    e = e._replace(gamma=untrained.logits.argmax(1))
    n = np.arange(49)
    pairs = [(i, j) for i in n for j in n if e.gamma[i] != e.gamma[j]]
    chosen = np.array(pairs)[np.random.default_rng(0).choice(len(pairs), 12, replace=False)]
    return e, features.circles.patching.PromptPairs(chosen[:, 0], chosen[:, 1])


def lead(logits, e, pairs):
    each = np.arange(len(pairs.clean))
    answers = np.asarray(logits)[:, -1][:, e.answers]
    return answers[each, e.gamma[pairs.clean]] - answers[each, e.gamma[pairs.corrupted]]


def recovered(decoder, e, pairs, site, layer, position, head=None):
    """(LD patched - LD corrupted) / (LD clean - LD corrupted), of whole forwards."""
    clean, corrupted = e.tokens[pairs.clean], e.tokens[pairs.corrupted]
    value = record(decoder, clean, None, site)[layer][:, position]
    if head is not None:
        value, head = value[:, head], jnp.asarray(head)
    edit = Patch(jnp.asarray(layer), jnp.asarray(position), value, site, head)
    patched, before, after = (
        lead(features.forward(decoder, tokens, None, how), e, pairs).mean()
        for tokens, how in ((corrupted, edit), (corrupted, no_edit), (clean, no_edit))
    )
    return max((patched - before) / (after - before), 0)


no_edit = features.lm.decoder.no_edit


@pytest.mark.slow
@pytest.mark.parametrize("site", ["resid", "attn", "mlp"])
def test_blocks_recover_what_a_whole_forward_does(untrained, right, site):
    e, pairs = right
    seen = []
    table = features.patch_blocks(
        untrained.decoder, e, pairs, site=site, layers=[1, 0], positions=[-1, 3], on_layer=seen.append
    )
    assert seen == [1, 0]
    for (row, layer), (column, position) in ((r, c) for r in enumerate([1, 0]) for c in enumerate([4, 3])):
        expected = recovered(untrained.decoder, e, pairs, site, layer, position)
        assert table[row, column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_heads_recover_what_a_whole_forward_does(untrained, right):
    e, pairs = right
    table = features.patch_heads(untrained.decoder, e, pairs)
    assert table.shape == (2, 2) and table.max() > 0
    for layer, head in ((0, 1), (1, 0)):
        expected = recovered(untrained.decoder, e, pairs, "heads", layer, 4, head)
        assert table[layer, head] == pytest.approx(expected, abs=1e-4)
    read = record(untrained.decoder, e.tokens, None, "heads")
    np.testing.assert_allclose(head_outputs(untrained.decoder, e, 1, 0, 2), read[1][:, 2, 0], atol=1e-6)


def test_what_cannot_be_patched_is_named(untrained, right):
    e, pairs = right
    same = pairs._replace(corrupted=pairs.clean)
    with pytest.raises(ValueError, match="does not prefer the right answers"):
        features.patch_blocks(untrained.decoder, e, same)
    for kwargs, message in (
        ({"layers": [0, 2]}, r"layers \[2\]: expected 0 to 1"),
        ({"positions": [5, -6]}, r"positions \[5, -6\]: prompts have 5 columns"),
        ({"site": "heads"}, "site='heads': expected 'resid', 'attn' or 'mlp'"),
    ):
        with pytest.raises(ValueError, match=message):
            features.patch_blocks(untrained.decoder, e, pairs, **kwargs)
    with pytest.raises(ValueError, match="several steps"):
        draw_pairs(e._replace(beta=np.ones_like(e.beta)))
