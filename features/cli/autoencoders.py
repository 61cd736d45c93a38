"""What the command line does with autoencoders: training and discovery."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from rich.table import Table

from features.cli import terminal

if TYPE_CHECKING:
    from features.circles.concepts import Concept
    from features.cli.commands import SaeDiscover, SaeTrain
    from features.discovery.discover import Annotation, Candidate, Discovery
    from features.lm.loading import LanguageModel
    from features.lm.tokenizer import Tokenizer
    from features.sae.step import Info, Run


def _token_rows(
    text: Path | None, tokenizer: Tokenizer, length: int, context: int
) -> Int[np.ndarray, "rows length"]:
    if not 2 <= length <= context:
        raise ValueError(f"--length {length}: expected 2 to {context} tokens, the model's context")
    if text is None or not text.is_file():
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


def _reader(
    command: SaeTrain | SaeDiscover, state: int
) -> tuple[
    Callable[[Int[Array, "batch length"]], Float[Array, "batch length width"]],
    LanguageModel,
    Int[np.ndarray, "rows length"],
]:
    """Compiled function from tokens to one residual state, the model, and the text's token rows."""
    import jax.numpy as jnp

    from features.lm.decoder import residual
    from features.lm.loading import load

    with terminal.CONSOLE.status(f"loading {command.model}"):
        model = load(command.model)
    depth = model.decoder.config.num_layers
    if not 0 <= state <= depth:
        raise ValueError(f"--layer {state}: the model has states 0 to {depth}")
    rows = _token_rows(command.text, model.tokenizer, command.length, model.decoder.config.context)
    layer = jnp.asarray(state)
    return (lambda tokens: residual(model.decoder, tokens, layer)), model, rows


def _one_source(command: SaeTrain | SaeDiscover) -> None:
    if (command.activations is None) == (command.text is None):
        raise ValueError("give either --activations FILE.npy or --text FILE")


def train(command: SaeTrain) -> None:
    """Trains an autoencoder and writes a SAELens folder."""
    _one_source(command)
    from features.sae.storage import check_destination

    check_destination(command.out)
    terminal.keep_compiled()
    import jax

    from features.sae.activations import CachedActivations, StreamedActivations
    from features.sae.config import SAEConfig
    from features.sae.storage import save_sae
    from features.sae.train import train as run_training

    asked = command.training
    config = dataclasses.replace(asked, chunk=min(asked.chunk, asked.steps))
    if asked.warmup > asked.steps // 5:
        config = dataclasses.replace(config, warmup=asked.steps // 5)
        terminal.CONSOLE.print(f"warmup: {config.warmup} steps, a fifth of all")
    if command.activations is not None:
        source = CachedActivations(terminal.load_array(command.activations), seed=command.seed)
        hook_name, model_name = "", ""
    else:
        run, model, rows = _reader(command, command.layer)
        source = StreamedActivations(
            run, rows, model.decoder.config.width, seed=command.seed, buffer=min(256, len(rows))
        )
        hook_name, model_name = f"blocks.{command.layer}.hook_resid_pre", model.name
    needs_k = command.activation in {"topk", "batchtopk"}
    sae_config = SAEConfig(
        source.d_in, command.d_sae, command.activation, command.k if needs_k else None,
        normalize_activations=command.normalize, hook_name=hook_name, model_name=model_name,
    )  # fmt: skip
    state = command.out.with_name(command.out.name + "-training")
    if state.exists() and not command.resume:
        raise ValueError(f"{state} holds an interrupted training: --resume goes on with it, or remove it")
    weights = 3 * 2 * source.d_in * command.d_sae * 4 / 1e9
    terminal.CONSOLE.print(f"memory: {source.plan(config.batch)}; weights and moments {weights:.2f} GB")
    with terminal.bar("training", config.steps) as advance:
        seen = [0]

        def on_chunk(run: Run, info: Info) -> None:
            step = int(run.step)
            said = f"FVE {info.fve[-10:].mean():.3f}, L0 {info.l0[-10:].mean():.1f}"
            advance(step - seen[0], f"{said}, dead {100 * info.dead[-1]:.0f} %")
            seen[0] = step

        trained = run_training(
            source, sae_config, config, key=jax.random.key(command.seed), checkpoint=state,
            resume=command.resume, save_every=5, on_chunk=on_chunk,
        )  # fmt: skip
    from features.sae.metrics import evaluate

    quality = evaluate(trained.sae, source.sample())
    save_sae(trained.sae, command.out, frequency=quality.frequency)
    import shutil

    shutil.rmtree(state, ignore_errors=True)
    terminal.CONSOLE.print(
        f"explains {100 * quality.fve:.1f} % of the variance with {quality.l0:.1f} latents per token; "
        f"{100 * quality.dead:.1f} % of latents silent on the sample"
    )
    terminal.CONSOLE.print(f"wrote {command.out}")


def _hooked_layer(hook: str, wanted: int | None) -> int:
    """The residual state that an autoencoder reads, from its file; ValueError where --layer says another."""
    found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", hook)
    if hook and found is None:
        raise ValueError(
            f"the autoencoder reads {hook!r}, which is no state of the residual stream; "
            "read are blocks.N.hook_resid_pre and blocks.N.hook_resid_post"
        )
    stated = None if found is None else int(found[1]) + (found[2] == "post")
    if stated is not None and wanted is not None and stated != wanted:
        raise ValueError(f"--layer {wanted}: the autoencoder was trained on {hook}, which is state {stated}")
    layer = stated if wanted is None else wanted
    if layer is None:
        raise ValueError("--layer is needed: the autoencoder does not say what it reads")
    return layer


class _Read(NamedTuple):
    """Activations that are searched, and what is known of their tokens."""

    x: Float[np.ndarray, "tokens d_in"]
    words: list[str] | None = None  # of each token, where a text was read
    labels: Int[np.ndarray, " tokens"] | None = None  # member of the concept that it names, or -1


def _read_text(command: SaeDiscover, layer: int, concept: Concept | None) -> _Read:
    """Runs a text through the model; the first token of every row is left out."""
    import jax.numpy as jnp

    from features.circles.concepts import label_tokens

    run, model, rows = _reader(command, layer)
    parts = []
    with terminal.bar("running the model", len(rows)) as advance:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            at = np.minimum(np.arange(start, start + _ROWS_AT_ONCE), len(rows) - 1)
            found = np.asarray(run(jnp.asarray(rows[at])), np.float32)[: len(rows) - start, 1:]
            parts.append(found.reshape(-1, found.shape[-1]))
            advance(min(_ROWS_AT_ONCE, len(rows) - start))
    stream = rows[:, 1:].reshape(-1)
    texts = {int(i): model.tokenizer.word(int(i)) for i in np.unique(stream)}
    labels = None
    if concept is not None:
        single = model.tokenizer.single
        labels = label_tokens(stream, {single(" " + n): i for i, n in enumerate(concept.members)})
    return _Read(np.concatenate(parts), [texts[int(i)] for i in stream], labels)


_ROWS_AT_ONCE = 32


def _commonest(candidate: Candidate, words: list[str]) -> list[str]:
    """The eight commonest tokens that a group fires on."""
    kinds, counts = np.unique([words[t] for t in candidate.reconstruction.tokens], return_counts=True)
    return [str(kinds[i]).strip() for i in np.argsort(-counts)[:8]]


def _as_data(said: Annotation) -> dict[str, Any]:
    """How a group relates to a concept, for result.json."""
    shape = None if said.order is None else said.order.shape
    return {
        "share": said.share,
        "members": said.covered,
        "plane": said.plane,
        "order": None if said.order is None else said.order.value,
        "order p": None if said.order is None else said.order.p_value,
        "r2": None if said.fit is None else said.fit.value,
        "r2 p": None if said.fit is None else said.fit.p_value,
        **({} if shape is None else {"shape": shape}),
    }


def _show(found: Discovery, read: _Read, concept: Concept | None, key: PRNGKeyArray) -> list[dict[str, Any]]:
    """Prints the ranked groups; returns them as plain data, with their commonest tokens."""
    from features.discovery.discover import annotate

    rows = found.table(30)
    shown = Table(title=f"{len(found.candidates)} of {found.groups} groups measured", title_justify="left")
    for name in ("rank", "latents", "score", "S best", "M best", "best plane", "p", "q", "points"):
        shown.add_column(name, justify="right")
    if read.words is not None:
        shown.add_column("commonest tokens")
    for row, candidate in zip(rows, found.candidates, strict=False):
        cells = [str(row["rank"]), str(len(candidate.latents))]
        cells += [str(row[name]) for name in ("score", "S best", "M best")]
        cells.append("–".join(str(i + 1) for i in candidate.best_plane))
        cells += ["" if row[name] is None else f"{row[name]:.3g}" for name in ("p", "q")]
        cells.append(str(row["points"]))
        if read.words is not None:
            row["tokens"] = _commonest(candidate, read.words)
            cells.append(" ".join(row["tokens"]))
        if read.labels is not None and concept is not None:
            said = annotate(candidate, read.labels, concept.period, key=key)
            row[concept.name] = _as_data(said)
            if said.order is not None and said.share > 0.3:
                order = f"order {said.order.value:.2f}, p = {said.order.p_value:.3g}, {said.order.shape}"
                cells[-1] += f" [{concept.name}: {order}]"
        shown.add_row(*cells)
    terminal.CONSOLE.print(shown)
    return rows


def _draw(found: Discovery, read: _Read, rows: list[dict[str, Any]], out: Path) -> str:
    """Draws the best planes; returns the names of what was written."""
    from features.report.figures import draw_circles

    panels = []
    for row, candidate in zip(rows[:9], found.candidates, strict=False):
        a, b = candidate.best_plane
        at, names = candidate.reconstruction.tokens, list(row.get("tokens", []))
        place = {name: i for i, name in enumerate(names)}
        words = read.words or [""] * len(read.x)
        marks = np.array([place.get(words[t].strip(), -1) for t in at])
        title = f"{row['rank']}. score {row['score']}, PC {a + 1}–{b + 1}"
        panels.append((title, candidate.reconstruction.points[:, [a, b]], marks, names))
    draw_circles(panels, out / "planes.png")
    try:
        from features.report.page import write_page

        write_page(found, read.words or [""] * found.tokens, out / "planes.html")
    except ImportError as error:
        terminal.CONSOLE.print(f"no planes.html: {error}")
        return "planes.png, result.json"
    return "planes.png, result.json, planes.html"


def discover(command: SaeDiscover) -> None:
    """Ranks groups of latents and draws their planes."""
    _one_source(command)
    from features.circles.concepts import get_concept
    from features.sae.storage import load_sae

    concept = None if command.concept is None else get_concept(command.concept)
    if concept is not None and command.text is None:
        raise ValueError("--concept needs --text: labels come from its tokens")
    sae = load_sae(command.sae)
    layer = _hooked_layer(sae.config.hook_name, command.layer) if command.text is not None else 0
    terminal.keep_compiled()
    import jax

    from features.discovery.discover import discover as run_discovery
    from features.files import write_json

    if command.activations is not None:
        read = _Read(terminal.load_array(command.activations))
    else:
        read = _read_text(command, layer, concept)
    out, key = terminal.folder(command.out), jax.random.key(command.config.clusters.seed)
    with terminal.CONSOLE.status("grouping, measuring and ranking"):
        found = run_discovery(sae, read.x, command.config, key=key)
    rows = _show(found, read, concept, key)
    write_json(out / "result.json", {"tokens": found.tokens, "groups": found.groups, "candidates": rows})
    written = _draw(found, read, rows, out)
    terminal.CONSOLE.print(f"wrote {out}/{written}")
