"""Shifts between names, against the angles of plain states."""

import numpy as np
import pytest

import features
from features.circles.concepts import CONCEPTS, Concept


def states(model, texts, layer):
    """State at the last token, each text by itself."""
    ids = [model.tokenizer.encode(text) for text in texts]
    return np.stack(
        [np.asarray(features.residual(model.decoder, np.array([row]), layer), float)[0, -1] for row in ids]
    )


@pytest.mark.slow
def test_shifts_are_turns_in_steps_of_the_cycle(tiny_model):
    names = CONCEPTS["seasons"].members
    qualifiers = ("very early on", "morning on")
    found = features.continuity(
        tiny_model, CONCEPTS["seasons"], 1, carrier="Today is {}", qualifiers=qualifiers
    )
    base = states(tiny_model, [f"Today is {name}" for name in names], 1)
    W = np.linalg.svd(base - base.mean(0), full_matrices=False)[2][:2]
    plain = (base - base.mean(0)) @ W.T
    # The plane is the same up to a reflection.
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), np.linalg.norm(found.plain, axis=1), atol=1e-4)
    assert set(found.shift) == set(found.qualified) == set(qualifiers)
    angle = np.unwrap(np.angle(plain[:, 0] + 1j * plain[:, 1]))
    forward = np.abs(np.exp(1j * (angle - np.arange(4) * np.pi / 2)).sum())
    backward = np.abs(np.exp(1j * (angle + np.arange(4) * np.pi / 2)).sum())
    assert abs(forward - backward) > 0.1  # else the sense of rotation would be a toss-up
    for qualifier in qualifiers:
        there = (states(tiny_model, [f"Today is {qualifier} {n}" for n in names], 1) - base.mean(0)) @ W.T
        gap = np.angle(np.exp(1j * (np.arctan2(there[:, 1], there[:, 0]) - angle)))
        expected = np.sign(forward - backward) * gap * 4 / (2 * np.pi)
        np.testing.assert_allclose(found.shift[qualifier], expected, atol=1e-3)


def test_the_mirror_image_of_the_plane_has_the_same_shifts(tiny_model, monkeypatch):
    """Signs of principal directions are arbitrary; positive is toward the next name all the same."""
    import importlib

    module = importlib.import_module("features.circles.continuity")
    here = features.continuity(tiny_model, CONCEPTS["seasons"], 1, qualifiers=("very late on",))
    whole = module.principal

    def mirrored(points, k):
        W, mean = whole(points, k)
        return W * np.array([[1.0], [-1.0]], np.float32), mean

    monkeypatch.setattr(module, "principal", mirrored)
    there = features.continuity(tiny_model, CONCEPTS["seasons"], 1, qualifiers=("very late on",))
    np.testing.assert_allclose(there.plain, here.plain * [1, -1], atol=1e-6)
    np.testing.assert_allclose(there.shift["very late on"], here.shift["very late on"], atol=1e-4)
    assert np.abs(here.shift["very late on"]).max() > 0.01


def test_nothing_said_is_no_shift(tiny_model):
    found = features.continuity(tiny_model, CONCEPTS["seasons"], 2, qualifiers=("",))
    np.testing.assert_allclose(found.shift[""], 0, atol=1e-4)
    np.testing.assert_allclose(found.qualified[""], found.plain, atol=1e-4)


def test_mistakes_are_named(tiny_model):
    with pytest.raises(ValueError, match=r"carrier='Today' lacks \{\}"):
        features.continuity(tiny_model, CONCEPTS["seasons"], 1, carrier="Today")
    with pytest.raises(ValueError, match="layer=3: expected 0 to 2"):
        features.continuity(tiny_model, CONCEPTS["seasons"], 3)
    with pytest.raises(ValueError, match="splits ' Mon day'"):
        features.continuity(tiny_model, Concept("c", ("Mon day", "Friday", "Sunday")), 1)
