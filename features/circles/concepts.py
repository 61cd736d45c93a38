"""Cyclic concepts and the prompts that ask about them (section 4 and appendix on prompts)."""

from __future__ import annotations

import dataclasses
import difflib
import string
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

NUMBERS = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")


@dataclasses.dataclass(frozen=True)
class Concept:
    """Names that follow each other around a cycle.

    Raises: ValueError for fewer than three or repeated names.
    """

    name: str
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 3 or len(set(self.members)) < len(self.members):
            raise ValueError(
                f"concept {self.name!r}: expected at least three different names, got {self.members}"
            )

    @property
    def period(self) -> int:
        return len(self.members)


def _concept(name: str, members: str) -> Concept:
    return Concept(name, tuple(members.split()))


CONCEPTS = {
    concept.name: concept
    for concept in (
        _concept("days", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        _concept(
            "months",
            "January February March April May June July August September October November December",
        ),
        _concept("hours", "one two three four five six seven eight nine ten eleven twelve"),
        _concept("seasons", "spring summer autumn winter"),
        _concept("compass", "north northeast east southeast south southwest west northwest"),
        _concept("notes", "C D E F G A B"),
        _concept(
            "zodiac",
            "Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces",
        ),
        _concept("colors", "red orange yellow green blue purple"),
    )
}


def get_concept(what: str) -> Concept:
    """A concept by name, or "a,b,c,..." as a list of your own.

    Raises: ValueError with near matches for an unknown name.
    """
    if what in CONCEPTS:
        return CONCEPTS[what]
    if "," in what:
        return Concept("custom", tuple(part.strip() for part in what.split(",")))
    near = difflib.get_close_matches(what, CONCEPTS, n=2)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(
        f"unknown concept {what!r}{hint} Known are {', '.join(CONCEPTS)}; or give names: 'a,b,c,...'"
    )


class Prompt(NamedTuple):
    """One question: start alpha, step beta, answer gamma = (alpha + step) mod period."""

    text: str
    alpha: int
    beta: int  # index into the task's steps
    gamma: int


@dataclasses.dataclass(frozen=True)
class Task:
    """A family of prompts over one concept.

    The template holds {alpha}, the member asked about, and {beta} where there is more than one step.
    Raises: ValueError for templates without {alpha}, or steps without {beta}.
    """

    name: str
    concept: Concept
    template: str
    steps: tuple[int, ...] = (1,)
    step_words: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        try:
            self.template.format(alpha="", beta="")
            # Plain fields: "{{alpha}}" is a text in braces, and "{alpha:.1}" only a part of the name.
            parts = string.Formatter().parse(self.template)
            fields = {field for _, field, form, conversion in parts if not form and not conversion}
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"task {self.name!r}: the template {self.template!r} may hold {{alpha}} and {{beta}} only "
                f"({error!r})"
            ) from error
        if "alpha" not in fields:
            raise ValueError(f"task {self.name!r}: the template {self.template!r} lacks {{alpha}}")
        if len(self.steps) != len(self.step_words):
            raise ValueError(f"task {self.name!r}: {len(self.steps)} steps but {len(self.step_words)} words")
        if len(self.steps) > 1 and "beta" not in fields:
            raise ValueError(f"task {self.name!r}: the template {self.template!r} lacks {{beta}}")

    def prompts(self) -> list[Prompt]:
        """All of them, steps running fastest."""
        period = self.concept.period
        return [
            Prompt(
                self.template.format(alpha=name, beta=self.step_words[b]), a, b, (a + self.steps[b]) % period
            )
            for a, name in enumerate(self.concept.members)
            for b in range(len(self.steps))
        ]


def _day_words() -> tuple[str, ...]:
    return tuple(f"{NUMBERS[n]} day{'s' if n else ''}" for n in range(7))


def _tasks() -> dict[str, Task]:
    days, months = CONCEPTS["days"], CONCEPTS["months"]
    seven, twelve = tuple(range(1, 8)), tuple(range(1, 13))
    asked, words = "{beta} from {alpha} is", _day_words()
    month_words = tuple(f"{number} months" for number in NUMBERS)  # "One months", as published
    return {
        task.name: task
        for task in (
            # The published numbers come from the code's wording; the paper prints "day of the week".
            Task("weekdays", days, f"Let's do some days of the week math. {asked}", seven, words),
            Task("weekdays-paper", days, f"Let's do some day of the week math. {asked}", seven, words),
            Task("months", months, f"Let's do some calendar math. {asked}", twelve, month_words),
            Task("next-month", months, "This month: {alpha}. Next month:"),
            Task("next-month-be", months, "This month is {alpha}. Next month will be"),
            Task("following-month", months, "This month is {alpha}. The following month is"),
            Task("tomorrow", days, "Today is {alpha}. Tomorrow will be"),
            Task("tomorrow-colon", days, "Today: {alpha}. Tomorrow:"),
            Task("same-day", days, "The meeting is on {alpha}. Yes, it is on", (0,)),
            Task("same-month", months, "The meeting is in {alpha}. Yes, it is in", (0,)),
        )
    }  # fmt: skip


TASKS = _tasks()


def get_task(what: str) -> Task:
    """A task by name; ValueError with near matches for an unknown one."""
    if what in TASKS:
        return TASKS[what]
    near = difflib.get_close_matches(what, TASKS, n=3)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(f"unknown task {what!r}{hint} Known are {', '.join(TASKS)}")


def circle_task(concept: Concept) -> Task:
    """Prompts for looking at a concept's states: the paper's where it has some, else a neutral carrier."""
    for task in (TASKS["weekdays"], TASKS["months"]):
        if task.concept.members == concept.members:
            return task
    return Task(concept.name, concept, "Let us talk about {alpha} now")


def label_tokens(tokens: Int[np.ndarray, " tokens"], names: dict[int, int]) -> Int[np.ndarray, " tokens"]:
    """Labels of a stream of token ids: names[id], or -1."""
    labels = np.full(np.shape(tokens), -1, np.int32)
    for token, label in names.items():
        labels[np.asarray(tokens) == token] = label
    return labels
