"""Concepts, tasks and labels: what is accepted, what prompts say, and what is refused."""

import string

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.circles.concepts import (
    CONCEPTS,
    TASKS,
    Concept,
    Task,
    circle_task,
    get_concept,
    get_task,
    label_tokens,
)

NAMES = st.lists(st.text(string.ascii_letters, min_size=1, max_size=6), min_size=3, max_size=14, unique=True)


@given(NAMES, st.text(" ", max_size=2))
def test_names_written_with_commas_are_read_back(names, space):
    found = get_concept(f",{space}".join(names))
    assert found.members == tuple(names) and found.period == len(names) and found.name == "custom"


@given(NAMES, st.lists(st.integers(-30, 30), min_size=2, max_size=5))
def test_every_prompt_asks_for_the_member_that_many_steps_on(names, steps):
    words = tuple(f"{step:+d}" for step in steps)
    task = Task("t", Concept("c", tuple(names)), "{beta} from {alpha} is", tuple(steps), words)
    prompts = task.prompts()
    assert [(p.alpha, p.beta) for p in prompts] == [
        (a, b) for a in range(len(names)) for b in range(len(steps))
    ]
    for prompt in prompts:
        said, _, start, _ = prompt.text.split(" ")
        assert names[prompt.gamma] == names[(names.index(start) + int(said)) % len(names)]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_known_tasks_ask_all_questions_in_different_words(name):
    task = get_task(name)
    prompts = task.prompts()
    assert len({p.text for p in prompts}) == len(prompts) == task.concept.period * len(task.steps)
    assert all(task.concept.members[p.alpha] in p.text for p in prompts)


@pytest.mark.parametrize("name", sorted(CONCEPTS))
def test_every_concept_has_prompts_to_look_at_it(name):
    concept = get_concept(name)
    task = circle_task(concept)
    assert task.concept.members == concept.members
    assert {p.alpha for p in task.prompts()} == set(range(concept.period))
    # The same names under another title are the same circle.
    assert circle_task(Concept("other", concept.members)).template == task.template


@given(st.text("{}alphbe!:.[]0 d", max_size=24))
@example("{alpha.x}")
@example("{alpha} {alpha.x}")
@example("{{alpha}}")
@example("{alpha:d}")
@example("{alpha[0]}")
def test_a_template_says_the_name_or_is_refused(template):
    try:
        task = Task("t", CONCEPTS["seasons"], template)
    except ValueError as error:
        assert "task 't'" in str(error) and repr(template) in str(error)
    else:
        assert len({p.text for p in task.prompts()}) == 4  # the names are in it


@given(st.lists(st.integers(0, 9), max_size=30), st.dictionaries(st.integers(0, 12), st.integers(0, 6)))
def test_labels_are_those_of_the_dictionary(tokens, names):
    found = label_tokens(np.array(tokens, int), names)
    assert found.tolist() == [names.get(token, -1) for token in tokens]


def test_mistakes_are_named():
    days = CONCEPTS["days"]
    for make, message in (
        (lambda: Concept("x", ("a", "b")), "concept 'x': expected at least three different names"),
        (lambda: get_concept("a,b"), "at least three"),
        (lambda: get_concept("dayz"), r"unknown concept 'dayz'; did you mean \['days'"),
        (lambda: get_concept("qqqq"), "unknown concept 'qqqq' Known are days, months"),
        (lambda: get_task("qqqq"), "unknown task 'qqqq' Known are weekdays"),
        (lambda: Task("x", days, "{alpha}", (1, 2), ("a",)), "2 steps but 1 words"),
        (lambda: Task("x", days, "{alpha}", (1, 2), ("a", "b")), r"lacks \{beta\}"),
        (lambda: Task("x", days, "{alpha} {gamma}"), r"may hold \{alpha\} and \{beta\} only"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
