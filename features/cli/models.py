"""What the command line does with models and clouds: calls, progress bars, figures and result.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from rich.table import Table

from features.cli import terminal

if TYPE_CHECKING:
    from features.circles.concepts import Task
    from features.circles.intervention import Effect
    from features.cli.commands import Circles, Demo, Evr, Intervene, Irreducible
    from features.synthetic.calendar_model import Calendar


def _effects_table(table: dict[int, dict[str, Effect]], title: str) -> Table:
    shown = Table(title=title, title_justify="left")
    shown.add_column("layer")
    methods = list(next(iter(table.values())))
    for method in methods:
        shown.add_column(method, justify="right")
    for layer, effects in table.items():
        cells = (f"{effects[m].logit_difference:+.2f} / {effects[m].success:.2f}" for m in methods)
        shown.add_row(str(layer), *cells)
    return shown


class _Unit(NamedTuple):
    """What the demo finds of one of the calendar's units."""

    result: dict[str, Any]
    effects: dict[str, Effect]  # by method of intervention
    plane: tuple[str, Float[np.ndarray, "prompts 2"], Int[np.ndarray, " prompts"], tuple[str, ...]]
    colors: tuple[str, Float[np.ndarray, "alpha beta 3"]]


def _trained_calendar(seed: int) -> Calendar:
    import jax

    from features.synthetic.calendar_model import CalendarConfig, train_calendar

    config = CalendarConfig()
    with terminal.bar("training the calendar", config.steps) as advance:
        done = [0]

        def on_chunk(steps: int, losses: Float[np.ndarray, " steps"]) -> None:
            advance(steps - done[0], f"training the calendar, loss {losses[-1]:.3f} nats")
            done[0] = steps

        return train_calendar(config, key=jax.random.key(seed), on_chunk=on_chunk)


def _examine_unit(calendar: Calendar, unit: Literal["days", "months"], relabellings: int, out: Path) -> _Unit:
    """Finds a unit's circle, writes points of it, explains the answers; draws the sweep and the null."""
    import jax

    from features.circles.concepts import CONCEPTS
    from features.circles.fit import circle_fit_test, class_means, fourier_power, order_test, principal
    from features.circles.intervention import METHODS, causal_null, circle_writer, intervene, polar_sweep
    from features.circles.prompting import run_prompts
    from features.circles.regression import explain, hidden_circle, library, regress, residual_colors
    from features.report.figures import draw_null, draw_polar

    members = CONCEPTS[unit].members
    cached = run_prompts(calendar.decoder, calendar.encoded(unit))
    e, states = cached.encoded, np.asarray(cached.alpha_states(0))
    W, mean = principal(states, 2)
    plane = (states - np.asarray(mean)) @ np.asarray(W).T
    order = order_test(class_means(plane, e.alpha, e.period))
    fit = circle_fit_test(states, e.alpha, e.period, k=2, key=jax.random.key(1))
    effects = {method: intervene(cached, 0, method) for method in METHODS}
    sweep = polar_sweep(cached, 0, writer=circle_writer(states, e.alpha, e.period, variant="evr"))
    functions = library(e.alpha, e.beta, e.period)
    last = np.asarray(cached.last_states(cached.num_layers))
    steps, _ = explain(last, functions, ["alpha, beta", "circle gamma", "circle alpha - beta"])
    with terminal.bar(f"{unit}: relabeled circles", relabellings) as advance:
        null = causal_null(cached, 0, "evr", relabellings=relabellings, on_relabelling=lambda _: advance())
    left = regress(last, functions["alpha, beta"]).residual
    draw_polar(sweep, members, out / f"sweep_{unit}.png", title=f"{unit}: points off the circle")
    draw_null(null.value, null.null, out / f"null_{unit}.png", title=f"{unit}: EVR patch at layer 0")
    result = {
        "accuracy": calendar.accuracy(unit),
        "held-out accuracy": calendar.accuracy(unit, held_out=True),
        "order": order.value,
        "order p": order.p_value,
        "shape": order.shape,
        "r2 of PC 1-2": fit.value,
        "r2 95 % of relabellings": fit.quantile_95,
        "fourier power": fourier_power(class_means(states, e.alpha, e.period)),
        "effects at layer 0": effects,
        "relabeled circles": {"true": null.value, "p": null.p_value, "least": float(null.null.min())},
        "explained": steps,
        "gamma circle after alpha, beta": hidden_circle(last, functions["alpha, beta"], e.gamma, e.period),
        "sweep agreement": dict(zip(sweep.radius.round(1).tolist(), sweep.agreement.tolist(), strict=True)),
    }
    return _Unit(
        result,
        effects,
        (f"{unit}: α token, layer 0, PC 1–2", plane, e.alpha, members),
        (f"{unit}: residual after α, β", residual_colors(left, e.alpha, e.beta)),
    )


def _show_units(units: dict[str, _Unit]) -> None:
    shown = Table(
        title="logit(original) − logit(target) after patching α at layer 0 / success", title_justify="left"
    )
    shown.add_column("method")
    for name in units:
        shown.add_column(name, justify="right")
    for method in next(iter(units.values())).effects:
        effects = [unit.effects[method] for unit in units.values()]
        shown.add_row(method, *(f"{e.logit_difference:+.2f} / {e.success:.2f}" for e in effects))
    terminal.CONSOLE.print(shown)
    for name, unit in units.items():
        r = unit.result
        terminal.CONSOLE.print(
            f"{name}: held-out accuracy {r['held-out accuracy']:.2f}, cyclic order {r['order']:.2f} "
            f"(p = {r['order p']:.4f}), "
            f"ordered circle against relabeled ones p = {r['relabeled circles']['p']:.3f}"
        )


def demo(command: Demo) -> None:
    """The soft calendar from training to intervention."""
    if command.relabellings < 1:
        raise ValueError(f"--relabellings {command.relabellings}: must be at least 1")
    terminal.keep_compiled()
    from features.circles.concepts import CONCEPTS
    from features.files import write_json
    from features.report.figures import draw_circles, draw_colors
    from features.synthetic.calendar_model import CalendarConfig

    out = terminal.folder(command.out)
    calendar = _trained_calendar(command.seed)
    names: tuple[Literal["days", "months"], ...] = ("days", "months")
    units: dict[str, _Unit] = {
        name: _examine_unit(calendar, name, command.relabellings, out) for name in names
    }
    draw_circles([unit.plane for unit in units.values()], out / "circles.png")
    colors = [unit.colors for unit in units.values()]
    draw_colors(colors, [*CONCEPTS["months"].members], out / "residual.png")
    about = {"seed": command.seed, "steps": CalendarConfig().steps}
    write_json(out / "result.json", about | {name: unit.result for name, unit in units.items()})
    _show_units(units)
    terminal.CONSOLE.print(f"wrote {out}/circles.png, residual.png, sweep_*.png, null_*.png, result.json")


def _concept_task(command: Circles) -> Task:
    from features.circles.concepts import Task, circle_task, get_concept

    concept = get_concept(command.concept)
    if command.template is None:
        return circle_task(concept)
    return Task(concept.name, concept, command.template)


def circles(command: Circles) -> None:
    """A concept's circle in every layer."""
    task = _concept_task(command)
    if command.permutations < 1:
        raise ValueError(f"--permutations {command.permutations}: must be at least 1")
    terminal.keep_compiled()
    import jax

    from features.circles.fit import circle_fit_test, class_means, fourier_power, order_test, principal
    from features.circles.prompting import run_task
    from features.files import write_json
    from features.lm.loading import load
    from features.report.figures import draw_circles

    out = terminal.folder(command.out)
    with terminal.CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    with terminal.CONSOLE.status("running the prompts"):
        cached = run_task(model, task)
    e = cached.encoded
    rows, planes = [], []
    shown = Table(title=f"{task.concept.name} in {model.name}: {task.template!r}", title_justify="left")
    for name in (
        "layer",
        "r² PC 1–2",
        "95 % of relabellings",
        "p",
        "order",
        "order p",
        "shape",
        "f = 1 power",
    ):
        shown.add_column(name, justify="right")
    with terminal.bar("layers", cached.num_layers) as advance:
        for layer in range(cached.num_layers):
            states = np.asarray(cached.alpha_states(layer), np.float32)
            fit = circle_fit_test(
                states, e.alpha, e.period, k=2, permutations=command.permutations, key=jax.random.key(layer)
            )
            W, mean = principal(states, 2)
            plane = (states - np.asarray(mean)) @ np.asarray(W).T
            order = order_test(class_means(plane, e.alpha, e.period))
            power = fourier_power(class_means(states, e.alpha, e.period))
            rows.append(
                {"layer": layer, "r2": fit.value, "r2 95 %": fit.quantile_95, "p": fit.p_value,
                 "order": order.value, "order p": order.p_value, "shape": order.shape,
                 "closure": order.closure, "fourier power": power}
            )  # fmt: skip
            planes.append((f"layer {layer}: r² {fit.value:.2f}", plane, e.alpha, task.concept.members))
            shown.add_row(
                str(layer), f"{fit.value:.3f}", f"{fit.quantile_95:.2f}", f"{fit.p_value:.3f}",
                f"{order.value * e.period:.0f}/{e.period}", f"{order.p_value:.4f}", order.shape or "",
                f"{power[0]:.2f}",
            )  # fmt: skip
            advance()
    best = sorted(range(len(rows)), key=lambda i: -rows[i]["r2"])[:6]
    draw_circles([planes[i] for i in sorted(best)], out / "circles.png")
    write_json(out / "result.json", {"model": model.name, "task": task.template, "layers": rows})
    terminal.CONSOLE.print(shown)
    terminal.CONSOLE.print(f"wrote {out}/circles.png, result.json")


def intervene(command: Intervene) -> None:
    """Every method at every layer, and the null."""
    from features.circles.concepts import get_task

    task = get_task(command.task)
    if command.relabellings < 0 or command.k < 2:
        raise ValueError("--relabellings must not be negative, and --k at least 2")
    terminal.keep_compiled()
    from features.circles.intervention import causal_null, drop_off, layer_sweep
    from features.circles.prompting import run_task
    from features.files import write_json
    from features.lm.loading import load
    from features.report.figures import draw_null, draw_sweep

    out = terminal.folder(command.out)
    with terminal.CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    depth = model.decoder.config.num_layers
    layers = list(command.layers) or list(range(depth))
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong:
        raise ValueError(f"--layers {wrong}: the model has layers 0 to {depth - 1}")
    cached = run_task(model, task, command.spelling)
    correct = int(cached.correct.sum())
    terminal.CONSOLE.print(f"{task.template!r}: {correct} of {len(cached.correct)} prompts right")
    if correct < 0.5 * len(cached.correct):
        terminal.CONSOLE.print(
            "the model can't do this task: patches toward right answers will not look like success"
        )
    with terminal.bar("layers", len(layers)) as advance:
        table = layer_sweep(cached, layers, k=command.k, on_layer=lambda *_: advance())
    result: dict[str, Any] = {"model": model.name, "task": task.name, "right": correct, "layers": table}
    terminal.CONSOLE.print(
        _effects_table(table, "logit(original) − logit(target) / share of patches that succeed")
    )
    draw_sweep(table, out / "layers.png", title=f"{model.name}: {task.template}")
    if len(layers) > 1:
        result["drop-off"] = drop_off(table)
        terminal.CONSOLE.print(f"the whole-layer patch stops working at layer {result['drop-off']}")
    if command.relabellings:
        with terminal.bar(f"relabeled circles, layer {layers[0]}", command.relabellings) as advance:
            null = causal_null(
                cached, layers[0], k=command.k, relabellings=command.relabellings,
                on_relabelling=lambda _: advance(),
            )  # fmt: skip
        result["null"] = {"layer": layers[0], "true": null.value, "null": null.null, "p": null.p_value}
        draw_null(null.value, null.null, out / "null.png", title=f"{task.template}, layer {layers[0]}")
        terminal.CONSOLE.print(
            f"layer {layers[0]}: the ordered circle reaches {null.value:+.2f}, {command.relabellings} "
            f"relabeled ones {null.null.mean():+.2f} on average, {null.null.min():+.2f} at best; "
            f"p = {null.p_value:.4f}"
        )
    write_json(out / "result.json", result)
    terminal.CONSOLE.print(
        f"wrote {out}/layers.png, {'null.png, ' if command.relabellings else ''}result.json"
    )


def evr(command: Evr) -> None:
    """Explanation via regression of one layer."""
    from features.circles.concepts import get_task

    task = get_task(command.task)
    if len(task.steps) < 2:
        raise ValueError(
            f"--task {task.name}: regression on alpha and beta needs several steps (weekdays, months)"
        )
    terminal.keep_compiled()
    from features.circles.prompting import run_task
    from features.circles.regression import (
        explain,
        explain_automatically,
        hidden_circle_null,
        library,
        regress,
        residual_colors,
    )
    from features.files import write_json
    from features.lm.loading import load
    from features.report.figures import draw_colors

    out = terminal.folder(command.out)
    with terminal.CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    if not 0 <= command.layer <= model.decoder.config.num_layers:
        raise ValueError(
            f"--layer {command.layer}: the model has states 0 to {model.decoder.config.num_layers}"
        )
    with terminal.CONSOLE.status("running the prompts"):
        cached = run_task(model, task)
    e = cached.encoded
    states = (
        cached.last_states(command.layer)
        if command.position == "last"
        else cached.alpha_states(command.layer)
    )
    states = np.asarray(states)
    functions = library(e.alpha, e.beta, e.period, steps=task.steps)
    if command.functions:
        steps, fit = explain(states, functions, command.functions)
    else:
        steps, fit = explain_automatically(states, functions)
    shown = Table(title=f"{task.name}, state {command.layer}, {command.position} token", title_justify="left")
    for name in ("added", "r²", "adjusted"):
        shown.add_column(name)
    for step in steps:
        shown.add_row(step.name, f"{step.r_squared:.4f}", f"{step.adjusted:.4f}")
    terminal.CONSOLE.print(shown)
    left = regress(states, functions["alpha, beta"]).residual
    circle = hidden_circle_null(states, functions["alpha, beta"], e.gamma, e.period)
    terminal.CONSOLE.print(
        "after alpha and beta are removed, two components predict circle(gamma) "
        f"with r² = {circle.value:.3f}; "
        f"relabeled 95 %: {circle.quantile_95:.3f}, p = {circle.p_value:.3f}"
    )
    images = [
        ("states", residual_colors(states, e.alpha, e.beta)),
        ("after alpha, beta", residual_colors(left, e.alpha, e.beta)),
        ("after all", residual_colors(fit.residual, e.alpha, e.beta)),
    ]
    draw_colors(images, task.concept.members, out / "residual.png")
    write_json(
        out / "result.json",
        {"model": model.name, "task": task.name, "layer": command.layer, "position": command.position,
         "steps": steps, "gamma circle after alpha, beta": {
                "r2": circle.value, "95 % of relabellings": circle.quantile_95, "p": circle.p_value,
            }},
    )  # fmt: skip
    terminal.CONSOLE.print(f"wrote {out}/residual.png, result.json")


def irreducible(command: Irreducible) -> None:
    """Both indices of a cloud."""
    points = terminal.load_array(command.file)
    if command.bootstrap < 0:
        raise ValueError(f"--bootstrap {command.bootstrap}: must not be negative")
    terminal.keep_compiled()
    import jax

    from features.files import write_json
    from features.irreducibility.measure import check_points, measure
    from features.irreducibility.mixture import sweep
    from features.irreducibility.separability import mutual_information_curve
    from features.report.figures import draw_cloud

    points = check_points(points)
    if command.png is not None and points.shape[1] != 2:
        raise ValueError(f"--png draws clouds in the plane; {command.file} has {points.shape[1]} dimensions")
    with terminal.CONSOLE.status("measuring"):
        found = measure(
            points, protocol=command.protocol, bootstrap=command.bootstrap, key=jax.random.key(command.seed)
        )

    def interval(pair: tuple[float, float] | None) -> str:
        return "" if pair is None else f"  (95 %: {pair[0]:.3f} to {pair[1]:.3f})"

    terminal.CONSOLE.print(
        f"separability S = {found.separability:.4f} bits{interval(found.separability_interval)}"
    )
    terminal.CONSOLE.print(f"mixture      M = {found.mixture:.4f}{interval(found.mixture_interval)}")
    terminal.CONSOLE.print(
        f"score (1 − M) S = {found.score:.4f}; {found.points} points, protocol {found.protocol}"
    )
    if found.rank == 1:
        terminal.CONSOLE.print("the points lie on a line: S is 0 and M 1 by definition")
    if command.png is not None:
        draw_cloud(
            points, np.asarray(mutual_information_curve(points)), sweep(points), command.png,
            title=command.file.name,
        )  # fmt: skip
        terminal.CONSOLE.print(f"wrote {command.png}")
    if command.out is not None:
        write_json(command.out, {**found._asdict(), "score": found.score, "file": str(command.file)})
        terminal.CONSOLE.print(f"wrote {command.out}")
