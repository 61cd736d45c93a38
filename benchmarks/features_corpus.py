"""Text without downloads, for training autoencoders: sentences from templates, and docstrings.

Half of the tokens are sentences made from templates below, with words from some forty families (days and
months are two of them); half are English paragraphs out of the docstrings of packages that the
tests install anyway (scikit-learn, scipy, sympy, networkx, numpy). Deterministic for a seed and those
packages' versions.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from features.lm.tokenizer import Tokenizer

FAMILIES = {
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February March April May June July August September October November December",
    "season": "spring summer autumn winter",
    "color": "red blue green yellow black white brown purple orange pink gray",
    "animal": "dog cat horse cow sheep goat pig rabbit mouse lion tiger bear wolf fox deer elephant monkey",
    "bird": "eagle owl duck goose chicken swan crow robin",
    "city": "London Paris Berlin Madrid Rome Vienna Moscow Tokyo Boston Chicago Dallas Sydney Cairo Delhi",
    "country": "France Germany Spain Italy Japan China India Brazil Canada Mexico Egypt Poland Sweden Greece",
    "language": "French German Spanish Italian Japanese Chinese Arabic Russian English Latin Greek Polish",
    "name": "John Mary Peter Anna David Sarah Michael Emma James Laura Robert Julia Thomas Alice Daniel Maria",
    "surname": "Smith Brown Wilson Taylor Miller Davis Clark Lewis Walker Young Baker Carter Cooper Murphy",
    "number": "two three four five six seven eight nine ten eleven twelve twenty thirty fifty",
    "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth",
    "fruit": "apple banana orange pear cherry lemon peach grape melon mango",
    "food": "bread cheese rice soup pasta meat fish salad cake butter honey sugar salt",
    "drink": "water milk coffee tea juice wine beer",
    "job": "doctor teacher lawyer nurse farmer engineer painter writer singer soldier pilot judge baker",
    "vehicle": "car bus train truck bicycle boat ship plane tractor van",
    "sport": "football tennis basketball baseball hockey golf chess swimming rugby boxing",
    "instrument": "piano guitar violin flute trumpet drum cello harp",
    "body": "hand foot arm leg head neck knee shoulder back finger ear nose",
    "material": "wood stone steel glass paper cotton leather gold silver iron copper plastic",
    "weather": "rain snow wind fog sun storm hail frost",
    "feeling": "happy sad angry tired afraid proud calm nervous lonely curious",
    "relative": "mother father brother sister uncle aunt cousin son daughter grandfather",
    "planet": "Mercury Venus Mars Jupiter Saturn Neptune",
    "furniture": "table chair bed desk sofa shelf lamp mirror door window",
    "cloth": "shirt coat hat shoes dress jacket scarf gloves",
    "verb": "walked ran slept worked waited laughed cried danced talked listened",
    "time": "morning afternoon evening night noon midnight",
    "unit": "meters miles kilometers feet inches pounds grams liters hours minutes seconds weeks years",
    "shape": "circle square triangle line cube sphere",
    "science": "physics chemistry biology history geography mathematics music art economics law",
    "place": "school hospital church park market library station museum kitchen garden bridge harbor",
    "direction": "north south east west left right up down",
    "adjective": "big small old new fast slow heavy light strong weak rich poor clean dirty hot cold",
    "tree": "oak pine maple birch palm willow",
    "digit": "1 2 3 4 5 6 7 8 9 10 11 12 15 20 30 100",
    "year": "1850 1912 1945 1968 1984 1999 2001 2010 2015 2020",
    "bool": "yes no maybe never always often rarely",
}  # fmt: skip

TEMPLATES = """
The meeting is on {day}.|We will meet {name} on {day} {time}.|The shop is closed on {day}.|{name} was born on a {day}.
Every {day} the {job} goes to the {place}.|On {day} it will {weather} in {city}.|Today is {day}, and I am {feeling}.
The {vehicle} leaves {city} on {day} at {digit}.|{day} is my favorite day because of {sport}.|They moved from {day} to {day}.
He called on {day} and again on {day}.|From {day} to {day} the {place} is open.|See you next {day}!|Last {day} we ate {food}.
The report is due by {day}, {month} {digit}.|{name} plays {sport} every {day}.|The {ordinal} of {month} was a {day}.
In {month} the {tree} trees are {color}.|{name} was born in {month} {year}.|The festival is held every {month} in {city}.
It was a cold {month} in {country}.|She moved to {city} in {month} of {year}.|{month} is warmer than {month}.
From {month} until {month} the {place} was closed.|Her birthday is {month} {digit}, {year}.|The war ended in {month} {year}.
In late {month} there was a lot of {weather}.|By early {month} the {fruit} is ripe.|We travel to {country} each {month}.
The contract runs from {month} to {month}.|{name} and {name} married in {month}.|Last {month} prices rose by {digit} percent.
In {season} the {bird} flies {direction}.|{season} is the season of {weather}.|I bought a {color} {vehicle} in {city}.
The {animal} sat beside the {furniture}.|A {color} {animal} ran across the {place}.|{name} {surname} lives in {city}, {country}.
My {relative} is a {job} in {country}.|She speaks {language} and a little {language}.|He wore a {color} {cloth} made of {material}.
There are {number} {animal}s on the farm.|{number} plus {number} is more than {number}.|The {ordinal} chapter is about {science}.
I would like some {food} and a glass of {drink}.|The {job} was {feeling} about the {weather}.|{name} plays the {instrument} every {time}.
The {furniture} is made of {material}.|His {body} hurt after {sport}.|{planet} is a planet, like {planet}.
It is {digit} {unit} long and {number} {unit} wide.|Turn {direction} at the {place}, then go {direction}.|Do you like {fruit}? {bool}, I do.
The {adjective} {animal} {verb} all {time}.|In {year} the {job} {surname} wrote a book on {science}.|A {shape} drawn in {color} ink.
{name} {verb} in the {place} with her {relative}.|The capital of {country} is not {city}.|We flew from {city} to {city} by {vehicle}.
They sold {fruit}, {food} and {drink} at the {place}.|The {bird} and the {animal} are {feeling}.|I study {science} and {science} in {city}.
{surname} scored in the {ordinal} minute.|The {material} bridge is {adjective} and {adjective}.|Chapter {digit}: {science} in {country}.
At {digit} in the {time} it began to {weather}.|It {bool} snows in {city} in {month}.|{name} is {digit} years old and {feeling}.
The price of {material} rose in {year}.|Mix the {food} with {drink} and wait {digit} minutes.|{language} is spoken in {country}.
"""  # fmt: skip

_PACKAGES = ("sklearn", "scipy", "sympy", "networkx", "numpy")


def sentences(rng: np.random.Generator, count: int) -> list[str]:
    """Sentences from random templates with random words."""
    families = {name: words.split() for name, words in FAMILIES.items()}
    templates = [t.strip() for line in TEMPLATES.strip().splitlines() for t in line.split("|")]
    made = []
    for choice in rng.integers(0, len(templates), count):

        def word(match: re.Match[str]) -> str:
            options = families[match.group(1)]
            return options[rng.integers(len(options))]

        text = re.sub(r"\{(\w+)\}", word, templates[choice])
        made.append(text[0].upper() + text[1:])
    return made


def paragraphs(limit: int) -> list[str]:
    """English paragraphs (at least 40 words) from docstrings and comments of installed packages."""
    found: list[str] = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        for file in sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.py")):
            if "tests" in file.parts:
                continue
            for block in re.findall(r'"""(.*?)"""', file.read_text(errors="ignore"), re.DOTALL):
                for part in re.split(r"\n\s*\n", block):
                    text = " ".join(part.split())
                    letters = sum(c.isalpha() or c == " " for c in text)
                    if len(text.split()) >= 40 and letters / len(text) > 0.93:
                        found.append(text)
                        if len(found) == limit:
                            return found
    return found


def token_rows(
    tokenizer: Tokenizer, *, tokens: int, length: int = 64, seed: int = 0
) -> Int[np.ndarray, "rows length"]:
    """Token ids: half of the rows templated sentences, half docstrings, mixed."""
    rng = np.random.default_rng(seed)
    rows = tokens // length

    def fill(texts: Iterable[str], wanted: int) -> Int[np.ndarray, "some_rows length"]:
        stream: list[int] = []
        for text in texts:
            stream += tokenizer.encode(" " + text, bos=False)
            if len(stream) >= wanted * length:
                break
        return np.asarray(stream[: len(stream) // length * length], np.int32).reshape(-1, length)[:wanted]

    prose = fill(paragraphs(60_000), rows // 2)
    made = fill(sentences(rng, (rows - len(prose)) * length // 6), rows - len(prose))
    together = np.concatenate([prose, made])
    return together[rng.permutation(len(together))]
