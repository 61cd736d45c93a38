"""What the command line does: calls, progress bars, figures and result.json."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from features.cli import Circles, Demo, Evr, Intervene, Irreducible, SaeDiscover, SaeTrain

_CONSOLE = Console(highlight=False)


@contextlib.contextmanager
def _bar(text: str, total: int) -> Iterator[Any]:
    """A progress bar; yields a function that advances it and may change its text."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_CONSOLE, transient=True) as progress:
        line = progress.add_task(text, total=total)

        def advance(steps: int = 1, description: str | None = None) -> None:
            progress.update(
                line, advance=steps, **({} if description is None else {"description": description})
            )

        yield advance


def _cache() -> None:
    """Keeps compiled programs in the user's cache folder."""
    import jax
    import platformdirs

    jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("features")) / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: --out must be a folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _effects_table(table: dict[int, dict[str, Any]], title: str) -> Table:
    shown = Table(title=title, title_justify="left")
    shown.add_column("layer")
    methods = list(next(iter(table.values())))
    for method in methods:
        shown.add_column(method, justify="right")
    for layer, effects in table.items():
        cells = (f"{effects[m].logit_difference:+.2f} / {effects[m].success:.2f}" for m in methods)
        shown.add_row(str(layer), *cells)
    return shown


def demo(command: Demo) -> None:
    """The soft calendar from training to intervention."""
    if command.relabellings < 1:
        raise ValueError(f"--relabellings {command.relabellings}: must be at least 1")
    _cache()
    import jax

    from features.calendar_model import CalendarConfig, train_calendar
    from features.circles import circle_fit_test, class_means, fourier_power, order_test, principal
    from features.concepts import CONCEPTS
    from features.draw import draw_circles, draw_colors, draw_null, draw_polar
    from features.intervention import METHODS, causal_null, circle_writer, intervene, polar_sweep
    from features.prompting import run_prompts
    from features.regression import explain, hidden_circle, library, regress, residual_colors
    from features.results import write_json

    out = _folder(command.out)
    config = CalendarConfig()
    with _bar("training the calendar", config.steps) as advance:
        done = [0]

        def on_chunk(steps, losses):
            advance(steps - done[0], f"training the calendar, loss {losses[-1]:.3f} nats")
            done[0] = steps

        calendar = train_calendar(config, key=jax.random.key(command.seed), on_chunk=on_chunk)
    result: dict[str, Any] = {"seed": command.seed, "steps": config.steps}
    panels, effects, colors = [], {}, []
    for unit, concept in (("days", CONCEPTS["days"]), ("months", CONCEPTS["months"])):
        cached = run_prompts(calendar.decoder, calendar.encoded(unit))
        e, states = cached.encoded, np.asarray(cached.alpha_states(0))
        means = class_means(states, e.alpha, e.period)
        W, mean = principal(states, 2)
        plane = (states - np.asarray(mean)) @ np.asarray(W).T
        order = order_test(class_means(plane, e.alpha, e.period))
        fit = circle_fit_test(states, e.alpha, e.period, k=2, key=jax.random.key(1))
        effects[unit] = {m: intervene(cached, 0, m) for m in METHODS}
        writer = circle_writer(states, e.alpha, e.period, variant="evr")
        sweep = polar_sweep(cached, 0, writer=writer)
        functions = library(e.alpha, e.beta, e.period)
        last = np.asarray(cached.last_states(cached.num_layers))
        steps, _ = explain(last, functions, ["alpha, beta", "circle gamma", "circle alpha - beta"])
        with _bar(f"{unit}: relabelled circles", command.relabellings) as advance:
            null = causal_null(
                cached, 0, "evr", relabellings=command.relabellings, on_relabelling=lambda _, a=advance: a()
            )
        left = regress(last, functions["alpha, beta"]).residual
        colors.append((f"{unit}: residual after α, β", residual_colors(left, e.alpha, e.beta)))
        panels.append((f"{unit}: α token, layer 0, PC 1–2", plane, e.alpha, concept.members))
        draw_polar(sweep, concept.members, out / f"sweep_{unit}.png", title=f"{unit}: points off the circle")
        draw_null(null.value, null.null, out / f"null_{unit}.png", title=f"{unit}: EVR patch at layer 0")
        result[unit] = {
            "accuracy": calendar.accuracy(unit),
            "held-out accuracy": calendar.accuracy(unit, held_out=True),
            "order": order.value,
            "order p": order.p_value,
            "r2 of PC 1-2": fit.value,
            "r2 95 % of relabellings": fit.quantile_95,
            "fourier power": fourier_power(means),
            "effects at layer 0": effects[unit],
            "relabelled circles": {"true": null.value, "p": null.p_value, "least": float(null.null.min())},
            "explained": steps,
            "gamma circle after alpha, beta": hidden_circle(
                last, functions["alpha, beta"], e.gamma, e.period
            ),
            "sweep agreement": dict(
                zip(sweep.radius.round(1).tolist(), sweep.agreement.tolist(), strict=True)
            ),
        }
    draw_circles(panels, out / "circles.png")
    draw_colors(colors, [*CONCEPTS["months"].members], out / "residual.png")
    write_json(out / "result.json", result)
    shown = Table(
        title="logit(original) − logit(target) after patching α at layer 0 / success", title_justify="left"
    )
    shown.add_column("method")
    for unit in effects:
        shown.add_column(unit, justify="right")
    for method in METHODS:
        cells = [
            f"{effects[u][method].logit_difference:+.2f} / {effects[u][method].success:.2f}" for u in effects
        ]
        shown.add_row(method, *cells)
    _CONSOLE.print(shown)
    for unit in effects:
        r = result[unit]
        _CONSOLE.print(
            f"{unit}: held-out accuracy {r['held-out accuracy']:.2f}, cyclic order {r['order']:.2f} "
            f"(p = {r['order p']:.4f}), "
            f"ordered circle against relabelled ones p = {r['relabelled circles']['p']:.3f}"
        )
    _CONSOLE.print(f"wrote {out}/circles.png, residual.png, sweep_*.png, null_*.png, result.json")


def _concept_task(command: Circles):
    from features.concepts import Task, circle_task, get_concept

    concept = get_concept(command.concept)
    if command.template is None:
        return circle_task(concept)
    return Task(concept.name, concept, command.template)


def circles(command: Circles) -> None:
    """A concept's circle in every layer."""
    task = _concept_task(command)
    if command.permutations < 1:
        raise ValueError(f"--permutations {command.permutations}: must be at least 1")
    _cache()
    import jax

    from features.circles import circle_fit_test, class_means, fourier_power, order_test, principal
    from features.draw import draw_circles
    from features.lm.loading import load
    from features.prompting import run_task
    from features.results import write_json

    out = _folder(command.out)
    with _CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    with _CONSOLE.status("running the prompts"):
        cached = run_task(model, task)
    e = cached.encoded
    rows, planes = [], []
    shown = Table(title=f"{task.concept.name} in {model.name}: {task.template!r}", title_justify="left")
    for name in ("layer", "r² PC 1–2", "95 % of relabellings", "p", "order", "order p", "f = 1 power"):
        shown.add_column(name, justify="right")
    with _bar("layers", cached.num_layers) as advance:
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
                 "order": order.value, "order p": order.p_value, "fourier power": power}
            )  # fmt: skip
            planes.append((f"layer {layer}: r² {fit.value:.2f}", plane, e.alpha, task.concept.members))
            shown.add_row(
                str(layer), f"{fit.value:.3f}", f"{fit.quantile_95:.2f}", f"{fit.p_value:.3f}",
                f"{order.value * e.period:.0f}/{e.period}", f"{order.p_value:.4f}", f"{power[0]:.2f}",
            )  # fmt: skip
            advance()
    best = sorted(range(len(rows)), key=lambda i: -rows[i]["r2"])[:6]
    draw_circles([planes[i] for i in sorted(best)], out / "circles.png")
    write_json(out / "result.json", {"model": model.name, "task": task.template, "layers": rows})
    _CONSOLE.print(shown)
    _CONSOLE.print(f"wrote {out}/circles.png, result.json")


def intervene(command: Intervene) -> None:
    """Every method at every layer, and the null."""
    from features.concepts import get_task

    task = get_task(command.task)
    if command.relabellings < 0 or command.k < 2:
        raise ValueError("--relabellings must not be negative, and --k at least 2")
    _cache()
    from features.draw import draw_null, draw_sweep
    from features.intervention import causal_null, drop_off, layer_sweep
    from features.lm.loading import load
    from features.prompting import run_task
    from features.results import write_json

    out = _folder(command.out)
    with _CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    depth = model.decoder.config.num_layers
    layers = list(command.layers) or list(range(depth))
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong:
        raise ValueError(f"--layers {wrong}: the model has layers 0 to {depth - 1}")
    cached = run_task(model, task, command.spelling)
    correct = int(cached.correct.sum())
    _CONSOLE.print(f"{task.template!r}: {correct} of {len(cached.correct)} prompts right")
    if correct < 0.5 * len(cached.correct):
        _CONSOLE.print(
            "the model can't do this task: patches toward right answers will not look like success"
        )
    with _bar("layers", len(layers)) as advance:
        table = layer_sweep(cached, layers, k=command.k, on_layer=lambda *_: advance())
    result: dict[str, Any] = {"model": model.name, "task": task.name, "right": correct, "layers": table}
    _CONSOLE.print(_effects_table(table, "logit(original) − logit(target) / share of patches that succeed"))
    draw_sweep(table, out / "layers.png", title=f"{model.name}: {task.template}")
    if len(layers) > 1:
        result["drop-off"] = drop_off(table)
        _CONSOLE.print(f"the whole-layer patch stops working at layer {result['drop-off']}")
    if command.relabellings:
        with _bar(f"relabelled circles, layer {layers[0]}", command.relabellings) as advance:
            null = causal_null(
                cached, layers[0], k=command.k, relabellings=command.relabellings,
                on_relabelling=lambda _: advance(),
            )  # fmt: skip
        result["null"] = {"layer": layers[0], "true": null.value, "null": null.null, "p": null.p_value}
        draw_null(null.value, null.null, out / "null.png", title=f"{task.template}, layer {layers[0]}")
        _CONSOLE.print(
            f"layer {layers[0]}: the ordered circle reaches {null.value:+.2f}, {command.relabellings} "
            f"relabelled ones {null.null.mean():+.2f} on average, {null.null.min():+.2f} at best; "
            f"p = {null.p_value:.4f}"
        )
    write_json(out / "result.json", result)
    _CONSOLE.print(f"wrote {out}/layers.png, {'null.png, ' if command.relabellings else ''}result.json")


def evr(command: Evr) -> None:
    """Explanation via regression of one layer."""
    from features.concepts import get_task

    task = get_task(command.task)
    if len(task.steps) < 2:
        raise ValueError(
            f"--task {task.name}: regression on alpha and beta needs several steps (weekdays, months)"
        )
    _cache()
    from features.draw import draw_colors
    from features.lm.loading import load
    from features.prompting import run_task
    from features.regression import (
        explain,
        explain_automatically,
        hidden_circle_null,
        library,
        regress,
        residual_colors,
    )
    from features.results import write_json

    out = _folder(command.out)
    with _CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    if not 0 <= command.layer <= model.decoder.config.num_layers:
        raise ValueError(
            f"--layer {command.layer}: the model has states 0 to {model.decoder.config.num_layers}"
        )
    with _CONSOLE.status("running the prompts"):
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
    _CONSOLE.print(shown)
    left = regress(states, functions["alpha, beta"]).residual
    circle = hidden_circle_null(states, functions["alpha, beta"], e.gamma, e.period)
    _CONSOLE.print(
        "after alpha and beta are removed, two components predict circle(gamma) "
        f"with r² = {circle.value:.3f}; "
        f"relabelled 95 %: {circle.quantile_95:.3f}, p = {circle.p_value:.3f}"
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
    _CONSOLE.print(f"wrote {out}/residual.png, result.json")


def _array(path: Path) -> np.ndarray:
    """A .npy array, memory-mapped; nothing is unpickled."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no .npy file of numbers: {error}") from error


def irreducible(command: Irreducible) -> None:
    """Both indices of a cloud."""
    points = _array(command.file)
    if command.bootstrap < 0:
        raise ValueError(f"--bootstrap {command.bootstrap}: must not be negative")
    _cache()
    import jax

    from features.draw import draw_cloud
    from features.information import mutual_information_curve
    from features.irreducibility import check_points, measure
    from features.mixture import sweep
    from features.results import write_json

    points = check_points(points)
    if command.png is not None and points.shape[1] != 2:
        raise ValueError(f"--png draws clouds in the plane; {command.file} has {points.shape[1]} dimensions")
    with _CONSOLE.status("measuring"):
        found = measure(
            points, protocol=command.protocol, bootstrap=command.bootstrap, key=jax.random.key(command.seed)
        )

    def interval(pair):
        return "" if pair is None else f"  (95 %: {pair[0]:.3f} to {pair[1]:.3f})"

    _CONSOLE.print(f"separability S = {found.separability:.4f} bits{interval(found.separability_interval)}")
    _CONSOLE.print(f"mixture      M = {found.mixture:.4f}{interval(found.mixture_interval)}")
    _CONSOLE.print(f"score (1 − M) S = {found.score:.4f}; {found.points} points, protocol {found.protocol}")
    if found.rank == 1:
        _CONSOLE.print("the points lie on a line: S is 0 and M 1 by definition")
    if command.png is not None:
        draw_cloud(
            points, np.asarray(mutual_information_curve(points)), sweep(points), command.png,
            title=command.file.name,
        )  # fmt: skip
        _CONSOLE.print(f"wrote {command.png}")
    if command.out is not None:
        write_json(command.out, {**found._asdict(), "score": found.score, "file": str(command.file)})
        _CONSOLE.print(f"wrote {command.out}")


def _token_rows(text: Path, tokenizer, length: int, context: int) -> np.ndarray:
    if not 2 <= length <= context:
        raise ValueError(f"--length {length}: expected 2 to {context} tokens, the model's context")
    if not text.is_file():
        raise ValueError(f"{text}: no such file")
    try:
        words = text.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{text} is no UTF-8 text: {error}") from error
    ids: list[int] = []
    for line in words.splitlines():
        if line.strip():
            ids += tokenizer.encode(" " + line.strip(), bos=False)
    rows = len(ids) // length
    if rows < 1:
        raise ValueError(f"{text} holds {len(ids)} tokens; at least {length} are needed")
    return np.asarray(ids[: rows * length], np.int32).reshape(rows, length)


def _reader(command: SaeTrain | SaeDiscover, state: int):
    """Compiled function from tokens to one residual state, the model, and the text's token rows."""
    import jax.numpy as jnp

    from features.lm.decoder import residual
    from features.lm.loading import load

    with _CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    depth = model.decoder.config.num_layers
    if not 0 <= state <= depth:
        raise ValueError(f"--layer {state}: the model has states 0 to {depth}")
    rows = _token_rows(
        command.text,
        model.tokenizer,
        command.length,
        model.decoder.config.context,  # type: ignore[arg-type]
    )
    layer = jnp.asarray(state)
    return (lambda tokens: residual(model.decoder, tokens, layer)), model, rows


def _one_source(command: SaeTrain | SaeDiscover) -> None:
    if (command.activations is None) == (command.text is None):
        raise ValueError("give either --activations FILE.npy or --text FILE")


def sae_train(command: SaeTrain) -> None:
    """Trains an autoencoder and writes a SAELens folder."""
    _one_source(command)
    from features.sae.storage import check_destination

    check_destination(command.out)
    _cache()
    import jax

    from features.sae.activations import CachedActivations, StreamedActivations
    from features.sae.config import SAEConfig
    from features.sae.storage import save_sae
    from features.sae.train import TrainConfig, train

    config = TrainConfig(
        steps=command.steps, batch=command.batch, learning_rate=command.learning_rate,
        warmup=min(500, command.steps // 5), sparsity=command.sparsity, chunk=min(50, command.steps),
    )  # fmt: skip
    if command.activations is not None:
        source = CachedActivations(_array(command.activations), seed=command.seed)
        names = {"hook_name": "", "model_name": ""}
    else:
        run, model, rows = _reader(command, command.layer)
        source = StreamedActivations(
            run, rows, model.decoder.config.width, seed=command.seed, buffer=min(256, len(rows))
        )
        names = {"hook_name": f"blocks.{command.layer}.hook_resid_pre", "model_name": model.name}
    needs_k = command.activation in {"topk", "batchtopk"}
    sae_config = SAEConfig(
        source.d_in, command.d_sae, command.activation, command.k if needs_k else None,
        normalize_activations=command.normalize, **names,
    )  # fmt: skip
    state = command.out.with_name(command.out.name + "-training")
    if state.exists() and not command.resume:
        raise ValueError(f"{state} holds an interrupted training: --resume goes on with it, or remove it")
    weights = 3 * 2 * source.d_in * command.d_sae * 4 / 1e9
    _CONSOLE.print(f"memory: {source.plan(command.batch)}; weights and moments {weights:.2f} GB")
    with _bar("training", command.steps) as advance:
        seen = [0]

        def on_chunk(run, info):
            step = int(run.step)
            said = f"FVE {info.fve[-10:].mean():.3f}, L0 {info.l0[-10:].mean():.1f}"
            advance(step - seen[0], f"{said}, dead {100 * info.dead[-1]:.0f} %")
            seen[0] = step

        trained = train(
            source, sae_config, config, key=jax.random.key(command.seed), checkpoint=state,
            resume=command.resume, save_every=5, on_chunk=on_chunk,
        )  # fmt: skip
    from features.sae.metrics import evaluate

    quality = evaluate(trained.sae, source.sample())
    save_sae(trained.sae, command.out, frequency=quality.frequency)
    import shutil

    shutil.rmtree(state, ignore_errors=True)
    _CONSOLE.print(
        f"explains {100 * quality.fve:.1f} % of the variance with {quality.l0:.1f} latents per token; "
        f"{100 * quality.dead:.1f} % of latents silent on the sample"
    )
    _CONSOLE.print(f"wrote {command.out}")


def _hooked_layer(hook: str, wanted: int | None) -> int:
    """The residual state that an autoencoder reads, from its file; ValueError where --layer says another."""
    found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", hook)
    stated = None if found is None else int(found[1]) + (found[2] == "post")
    if stated is not None and wanted is not None and stated != wanted:
        raise ValueError(f"--layer {wanted}: the autoencoder was trained on {hook}, which is state {stated}")
    if stated is None and wanted is None:
        raise ValueError("--layer is needed: the autoencoder does not say what it reads")
    return stated if wanted is None else wanted  # type: ignore[return-value]


def sae_discover(command: SaeDiscover) -> None:
    """Ranks groups of latents and draws their planes."""
    _one_source(command)
    from features.concepts import get_concept, label_tokens
    from features.sae.storage import load_sae

    concept = None if command.concept is None else get_concept(command.concept)
    if concept is not None and command.text is None:
        raise ValueError("--concept needs --text: labels come from its tokens")
    sae = load_sae(command.sae)
    layer = _hooked_layer(sae.config.hook_name, command.layer) if command.text is not None else 0
    _cache()
    import jax

    from features.clusters import ClusterConfig
    from features.discovery import DiscoverConfig, annotate, discover
    from features.draw import draw_circles
    from features.results import write_json

    config = DiscoverConfig(
        ClusterConfig(
            neighbors=command.neighbors, threshold=command.threshold, coactivation=command.coactivation,
            least_frequency=command.least_frequency, least_size=command.least_size,
        ),
        ranking=command.ranking,
    )  # fmt: skip
    words: list[str] | None = None
    labels = None
    if command.activations is not None:
        x = _array(command.activations)
    else:
        import jax.numpy as jnp

        run, model, rows = _reader(command, layer)
        parts = []
        with _bar("running the model", len(rows)) as advance:
            for start in range(0, len(rows), 32):
                at = np.minimum(np.arange(start, start + 32), len(rows) - 1)
                found = np.asarray(run(jnp.asarray(rows[at])), np.float32)[: len(rows) - start, 1:]
                parts.append(found.reshape(-1, found.shape[-1]))
                advance(min(32, len(rows) - start))
        x = np.concatenate(parts)
        stream = rows[:, 1:].reshape(-1)
        texts = {int(i): model.tokenizer.word(int(i)) for i in np.unique(stream)}
        words = [texts[int(i)] for i in stream]
        if concept is not None:
            single = model.tokenizer.single
            labels = label_tokens(stream, {single(" " + n): i for i, n in enumerate(concept.members)})
    out = _folder(command.out)
    with _CONSOLE.status("grouping, measuring and ranking"):
        found = discover(sae, x, config, key=jax.random.key(command.seed))
    table = found.table(30)
    shown = Table(title=f"{len(found.candidates)} of {found.groups} groups measured", title_justify="left")
    for name in ("rank", "latents", "score", "S best", "M best", "best plane", "p", "points"):
        shown.add_column(name, justify="right")
    if words is not None:
        shown.add_column("commonest tokens")
    for row, candidate in zip(table, found.candidates, strict=False):
        cells = [
            str(row["rank"]),
            str(len(candidate.latents)),
            *(str(row[n]) for n in ("score", "S best", "M best")),
        ]
        cells += ["–".join(map(str, row["best plane"])), str(row["p"]), str(row["points"])]  # type: ignore[arg-type]
        if words is not None:
            kinds, counts = np.unique([words[t] for t in candidate.reconstruction.tokens], return_counts=True)
            common = [str(kinds[i]).strip() for i in np.argsort(-counts)[:8]]
            row["tokens"] = common
            cells.append(" ".join(common))
        if labels is not None and concept is not None:
            said = annotate(candidate, labels, concept.period, key=jax.random.key(command.seed))
            row[concept.name] = {
                "share": said.share, "members": said.covered, "plane": said.plane,
                "order": None if said.order is None else said.order.value,
                "order p": None if said.order is None else said.order.p_value,
                "r2": None if said.fit is None else said.fit.value,
                "r2 p": None if said.fit is None else said.fit.p_value,
            }  # fmt: skip
            if said.order is not None and said.share > 0.3:
                cells[-1] += f" [{concept.name}: order {said.order.value:.2f}, p = {said.order.p_value:.4f}]"
        shown.add_row(*cells)
    _CONSOLE.print(shown)
    panels = []
    for row, candidate in zip(table[:9], found.candidates, strict=False):
        a, b = candidate.best_plane
        at = candidate.reconstruction.tokens
        names: list[str] = []
        marks = np.full(len(at), -1)
        if words is not None:
            names = list(row["tokens"])  # type: ignore[arg-type]
            place = {name: i for i, name in enumerate(names)}
            marks = np.array([place.get(words[t].strip(), -1) for t in at])
        title = f"{row['rank']}. score {row['score']}, PC {a + 1}–{b + 1}"
        panels.append((title, candidate.reconstruction.points[:, [a, b]], marks, names))
    draw_circles(panels, out / "planes.png")
    write_json(out / "result.json", {"tokens": found.tokens, "groups": found.groups, "candidates": table})
    written = "planes.png, result.json"
    try:
        from features.pages import write_page

        write_page(found, words or [""] * found.tokens, out / "planes.html")
        written += ", planes.html"
    except ImportError as error:
        _CONSOLE.print(f"no planes.html: {error}")
    _CONSOLE.print(f"wrote {out}/{written}")
