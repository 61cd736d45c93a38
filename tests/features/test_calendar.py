"""The soft calendar as a positive control: probe, patch, null, sweep, regression, patching."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import features
from features.circles.concepts import (
    CONCEPTS,
    Concept,
    Task,
    circle_task,
    get_concept,
    get_task,
    label_tokens,
)
from features.circles.intervention import (
    METHODS,
    _student_98,
    all_pairs,
    circle_writer,
    drop_off,
    patch_values,
)
from features.circles.patching import head_outputs
from features.circles.prompting import encode_task, patched_logits, run_prompts
from features.circles.regression import hidden_circle, residual_colors
from features.synthetic.calendar_model import CalendarConfig, problems, run_steps, targets, train_calendar


@pytest.fixture(scope="module")
def months(calendar):
    return run_prompts(calendar.decoder, calendar.encoded("months"))


@pytest.fixture(scope="module")
def days(calendar):
    return run_prompts(calendar.decoder, calendar.encoded("days"))


def test_it_learns_what_it_was_not_shown(calendar):
    assert calendar.accuracy("months", held_out=True) >= 13 / 14
    assert calendar.accuracy("days") >= 0.93
    assert calendar.losses[-1] < calendar.losses[0]


def test_problems_and_targets():
    found = problems(0.9)
    assert len(found.gamma) == 193 and found.train[:49].sum() == 44 and found.train[49:].sum() == 130
    q = targets(found, 2.0)
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-6)
    assert (q[:49, :7].argmax(1) == found.gamma[:49]).all() and (
        q[49:, 7:19].argmax(1) == found.gamma[49:]
    ).all()
    hard = targets(found, None)
    assert ((hard == 1).sum(1) == 1).all()


def test_months_lie_on_a_circle_at_the_embedding(months):
    e, states = months.encoded, np.asarray(months.alpha_states(0))
    assert float(features.fit_circle(states, e.alpha, 12).r_squared) >= 0.95
    assert features.fourier_power(features.class_means(states, e.alpha, 12))[0] >= 0.5


def test_interventions(months, days):
    effects = {m: features.intervene(months, 0, m) for m in METHODS}
    whole = effects["layer"].logit_difference
    assert effects["none"].logit_difference == pytest.approx(-whole, rel=1e-3) and whole < -1.9
    assert abs(effects["average"].logit_difference) < 0.05
    assert (
        effects["evr"].logit_difference <= 0.85 * whole and effects["circle"].logit_difference <= 0.75 * whole
    )
    assert effects["layer"].success == 1 and effects["none"].success == 0
    assert effects["layer"].patches == 1584 and features.intervene(days, 0, "layer").patches == 294
    relabeled = features.intervene(months, 0, "evr", relabel=np.array([0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11]))
    assert relabeled.logit_difference > effects["evr"].logit_difference / 2
    # Block 0 has begun to copy alpha to the last token: later the patch does less.
    table = features.layer_sweep(months, [0, 1], ("layer",))
    assert table[1]["layer"].logit_difference > whole + 0.5
    made = {0: {"layer": effects["layer"]}, 1: {"layer": effects["none"]}, 2: {"layer": effects["none"]}}
    assert drop_off(made) == 1 and drop_off({0: made[0]}) is None


def test_the_embedding_shortcut_is_exact(months):
    pairs = all_pairs(months)
    for method in ("layer", "circle", "average"):
        values = patch_values(months, pairs, 0, method)
        full = patched_logits(months, 0, pairs.row, values)
        short = features.intervene(months, 0, method)
        each = np.arange(len(pairs.row))
        difference = full[each, months.encoded.gamma[pairs.row]] - full[each, pairs.target]
        assert short.logit_difference == pytest.approx(difference.mean(), abs=1e-4)


def test_patched_logits_are_those_of_full_forwards(months):
    from features.lm.edits import Patch

    e, rows = months.encoded, np.array([0, 30, 77])
    for layer in (0, 1):
        value = jax.random.normal(jax.random.key(layer), (3, 32))
        edit = Patch(jnp.asarray(layer), jnp.asarray(e.column), value)
        full = features.forward(months.decoder, jnp.asarray(e.tokens[rows]), None, edit)[:, -1][:, e.answers]
        np.testing.assert_allclose(patched_logits(months, layer, rows, value, batch=2), full, atol=1e-5)
    with pytest.raises(ValueError, match="layer=2: expected 0 to 1"):
        patched_logits(months, 2, rows, value)


def test_causal_null_never_draws_the_circle_itself(days):
    null = features.causal_null(days, 0, "evr", relabellings=12)
    assert null.null.min() > null.value and null.p_value == pytest.approx(1 / 13)
    again = features.causal_null(days, 0, "evr", relabellings=12)
    np.testing.assert_array_equal(null.null, again.null)


def test_writers_agree_where_the_mean_is_zero():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(7, 12)), 3, 0)
    x -= x.mean(0)
    labels = np.repeat(np.arange(7), 3)
    found = [circle_writer(x, labels, 7, variant=v) for v in ("centered", "paper", "code")]
    for writer in found[1:]:
        np.testing.assert_allclose(writer.base, found[0].base, atol=1e-4)
        np.testing.assert_allclose(writer.plane, found[0].plane, atol=1e-3)
    basis = np.linalg.svd(x, full_matrices=False)[2][:2]
    plane = circle_writer(x, labels, 7, basis=basis).plane
    np.testing.assert_allclose(plane, plane @ basis.T @ basis, atol=1e-4)  # stays in the given plane


def test_polar_sweep(months):
    writer = circle_writer(months.alpha_states(0), months.encoded.alpha, 12, variant="evr")
    found = features.polar_sweep(months, 0, writer=writer, radii=[0, 1], angles=24)
    assert found.answer.shape == (12, 2, 24)
    assert found.agreement[1] > 0.5 > 0.2 > found.agreement[0]
    assert (found.margin >= 0).all() and (found.best >= found.margin).any()


def test_gamma_is_a_circle_under_alpha_and_beta(months):
    e = months.encoded
    functions = features.library(e.alpha, e.beta, 12)
    last = np.asarray(months.last_states(2))
    steps, _ = features.explain(last, functions, ["alpha, beta", "circle gamma", "gamma"])
    assert steps[1].r_squared - steps[0].r_squared > 0.1 and steps[1].r_squared > 0.85
    assert steps[2].r_squared - steps[1].r_squared < 0.02  # one-hot gamma adds nothing to its circle
    assert hidden_circle(last, functions["alpha, beta"], e.gamma, 12) > 0.8
    chosen, fit = features.explain_automatically(last, functions)
    assert chosen[0].name == "alpha, beta" and fit.r_squared > 0.95
    image = residual_colors(features.regress(last, functions["alpha, beta"]).residual, e.alpha, e.beta)
    assert image.shape == (12, 12, 3) and image.min() == 0 and image.max() == 1
    with pytest.raises(ValueError, match="unknown functions"):
        features.explain(last, functions, ["delta"])


def test_regression_toy():
    """The paper's toy: sines and indicators of a 10 x 10 grid, explained part by part."""
    rng = np.random.default_rng(0)
    a, b = (v.ravel() for v in np.meshgrid(np.arange(10), np.arange(10), indexing="ij"))
    parts = {"sin a": np.sin(a), "b": b, "a is 4": a == 4, "b is 1": b == 1}
    columns = {name: value[:, None].astype(float) for name, value in parts.items()}
    states = np.concatenate(list(columns.values()), 1) @ rng.uniform(size=(4, 10)) + 0.1 * rng.normal(
        size=(100, 10)
    )
    steps, _ = features.explain(states, columns, ["a is 4", "b is 1", "sin a", "b"], components=None)
    assert (np.diff([s.r_squared for s in steps]) > 0).all() and steps[-1].r_squared > 0.98
    chosen, _ = features.explain_automatically(states, columns, least_gain=1e-4, components=None)
    assert chosen[0].name == "b" and {s.name for s in chosen} == set(columns)
    assert features.regress(states, None).r_squared == pytest.approx(0)
    assert features.regress(states, np.repeat(columns["b"], 2, 1)).rank == 2
    for bad, message in ((np.ones((100, 3)), "constant"), (np.full((100, 3), np.inf), "finite")):
        with pytest.raises(ValueError, match=message):
            features.regress(bad, columns["b"])


def test_patching_blocks_and_heads(months):
    pairs = features.draw_pairs(months.encoded, per_kind=10)
    e = months.encoded
    assert (e.gamma[pairs.clean] != e.gamma[pairs.corrupted]).all() and len(pairs.clean) == 20
    assert (e.alpha[pairs.clean[:10]] == e.alpha[pairs.corrupted[:10]]).all()
    assert (e.beta[pairs.clean[10:]] == e.beta[pairs.corrupted[10:]]).all()
    table = features.patch_blocks(months.decoder, e, pairs, site="resid")
    assert table.shape == (2, 5)
    # At the embedding, the number and alpha carry everything; the other tokens nothing.
    assert table[0, [1, 2, 4]].max() < 0.02 and 0.2 < table[0, 0] < 0.9 and 0.2 < table[0, 3] < 0.9
    assert table[1, -1] > 0.05 > table[0, -1]  # block 0 has moved some of it to the last token
    heads = features.patch_heads(months.decoder, e, pairs)
    assert heads.shape == (2, 2) and heads.max() > 0.2
    assert head_outputs(months.decoder, e, 0, 1).shape == (144, 16)
    with pytest.raises(ValueError, match="several steps"):
        features.draw_pairs(e._replace(beta=0 * e.beta))


@pytest.mark.slow
def test_hard_labels_memorize():
    """The contrast: one-hot targets, nothing held out is right beyond chance."""
    config = CalendarConfig(kappa=None, weight_decay=1.0, steps=1000, names_only=False)
    found = train_calendar(config, key=jax.random.key(0))
    assert found.accuracy("months", held_out=False) > 0.95
    assert found.accuracy("months", held_out=True) < 0.3


def test_concepts_and_tasks():
    assert get_concept("a, b,c").members == ("a", "b", "c")
    assert circle_task(CONCEPTS["days"]) is get_task("weekdays")
    assert len(get_task("weekdays").prompts()) == 49 and len(get_task("months").prompts()) == 144
    first = get_task("months").prompts()[0]
    assert first.text == "Let's do some calendar math. One months from January is" and first.gamma == 1
    assert (
        get_task("weekdays").prompts()[8].text
        == "Let's do some days of the week math. Two days from Tuesday is"
    )
    np.testing.assert_array_equal(label_tokens(np.array([5, 6, 5]), {5: 0}), [0, -1, 0])
    with pytest.raises(ValueError, match=r"did you mean \['months'\]"):
        get_concept("month")
    with pytest.raises(ValueError, match="did you mean"):
        get_task("nextmonth")
    with pytest.raises(ValueError, match=r"lacks \{alpha\}"):
        Task("x", CONCEPTS["days"], "no")
    with pytest.raises(ValueError, match="three different names"):
        Concept("x", ("a", "a", "b"))
    with pytest.raises(ValueError, match="multiple of num_heads"):
        CalendarConfig(width=33)


def test_split_names_say_what_to_do(smollm2):
    task = Task("x", Concept("x", ("Monday", "Thermidor", "Sunday")), "On {alpha} we")
    with pytest.raises(ValueError, match=r"splits ' Thermidor' into .*Use other names"):
        encode_task(smollm2, task)


def test_smollm2_knows_the_next_month_by_its_circle(smollm2):
    """Figures of an independent run of the same experiment."""
    cached = features.run_task(smollm2, get_task("next-month"))
    assert cached.correct.all()
    found = {m: features.intervene(cached, 0, m).logit_difference for m in ("none", "layer", "circle", "evr")}
    for method, value in {"none": 2.40, "layer": -2.40, "circle": -1.59, "evr": -1.64}.items():
        assert found[method] == pytest.approx(value, abs=0.02), method
    states = cached.alpha_states(6)
    assert states.shape == (12, 576)
    null = features.causal_null(cached, 0, relabellings=4)
    assert null.null.min() > null.value


def test_prompts_of_different_lengths_are_padded(smollm2):
    encoded = encode_task(smollm2, get_task("months"))
    lengths = encoded.mask.sum(1)
    assert set(lengths.tolist()) == {12, 13}  # " Eleven" is two tokens
    name = smollm2.tokenizer.word(int(encoded.tokens[0, encoded.column]))
    assert name == " January" and encoded.column == encoded.tokens.shape[1] - 2


def test_student_quantile():
    from scipy.stats import t

    for degrees in (8, 20, 300):
        assert _student_98(degrees) == pytest.approx(t.ppf(0.98, degrees), abs=2e-3)


def test_lowers_for_accelerators():
    config = CalendarConfig(steps=5)
    from features.synthetic.calendar_model import init_state

    state = init_state(config, key=jax.random.key(0))
    found = problems(0.9)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), state)
    arguments = (
        shapes,
        jax.ShapeDtypeStruct(found.tokens.shape, jnp.int32),
        jax.ShapeDtypeStruct((193, 35), jnp.float32),
    )
    function = jax.jit(lambda s, t, g: run_steps(s, t, g, config=config, steps=5))
    jax.export.export(function, platforms=["cpu", "cuda", "tpu"])(*arguments)
    assert dataclasses.replace(config, steps=6).steps == 6


def test_continuity_is_measured_in_steps(smollm2):
    """An independent run found no continuity in this model: shifts within a tenth of a day."""
    found = features.continuity(smollm2, CONCEPTS["days"], 8)
    assert found.plain.shape == (7, 2) and set(found.shift) == set(found.qualified)
    for qualifier, shift in found.shift.items():
        assert abs(shift.mean()) < 0.3, qualifier
    assert features.order_score(found.plain) == 1
    with pytest.raises(ValueError, match="lacks"):
        features.continuity(smollm2, CONCEPTS["days"], 8, carrier="Today is")


def test_a_name_that_occurs_twice_takes_the_long_way(calendar, months):
    """The shortcut at layer 0 holds only where nothing else depends on alpha."""
    from features.circles.intervention import _only_alpha_differs

    e = months.encoded
    assert _only_alpha_differs(months)
    tokens = e.tokens.copy()
    tokens[:, 2] = tokens[:, 3]
    twice = run_prompts(calendar.decoder, e._replace(tokens=tokens))
    assert not _only_alpha_differs(twice)
    pairs = all_pairs(twice)
    logits = patched_logits(twice, 0, pairs.row, patch_values(twice, pairs, 0, "layer"))
    each = np.arange(len(pairs.row))
    difference = (logits[each, e.gamma[pairs.row]] - logits[each, pairs.target]).mean()
    assert features.intervene(twice, 0, "layer").logit_difference == pytest.approx(difference, abs=1e-4)


def test_what_has_no_meaning_is_refused(months, days):
    with pytest.raises(ValueError, match="does not use labels"):
        features.causal_null(months, 0, "layer")
    with pytest.raises(ValueError, match="k=-3"):
        features.intervene(months, 0, "pca", k=-3)
    with pytest.raises(ValueError, match="layer=9: expected 0 to 2"):
        months.alpha_states(9)
    pairs = features.draw_pairs(months.encoded, per_kind=4)
    for kwargs, message in (
        ({"layers": [-1]}, r"layers \[-1\]"), ({"positions": [40]}, r"positions \[40\]"), ({"site": "x"}, "site='x'")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            features.patch_blocks(months.decoder, months.encoded, pairs, **kwargs)
    wrong = months.encoded._replace(gamma=(months.encoded.gamma + 6) % 12)
    with pytest.raises(ValueError, match="does not prefer the right answers"):
        features.patch_blocks(months.decoder, wrong, pairs)
    x, labels = np.asarray(days.alpha_states(0)), days.encoded.alpha
    for kwargs, message in (({"frequency": 4}, "circles of 1 to 3"), ({"frequency": 0}, "circles of 1 to 3")):
        with pytest.raises(ValueError, match=message):
            features.fit_circle(x, labels, 7, **kwargs)
    with pytest.raises(ValueError, match="labels 1 to 7"):
        features.fit_circle(x, labels + 1, 7)


def test_hidden_circle_null(months):
    from features.circles.regression import hidden_circle_null

    e = months.encoded
    functions = features.library(e.alpha, e.beta, 12)
    np.testing.assert_array_equal(
        functions["gamma"], features.library(e.alpha, e.beta, 12, steps=range(1, 13))["gamma"]
    )
    null = hidden_circle_null(
        np.asarray(months.last_states(2)), functions["alpha, beta"], e.gamma, 12, permutations=40
    )
    assert null.p_value == pytest.approx(1 / 41) and null.value > 0.8 > null.quantile_95
    with pytest.raises(ValueError, match="explains the circle already"):
        hidden_circle(np.asarray(months.last_states(2)), functions["gamma"], e.gamma, 12)
