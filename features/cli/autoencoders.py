"""What the command line does with autoencoders: training and discovery."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array, Float, Int
from rich.table import Table

from features.cli import terminal

if TYPE_CHECKING:
    from features.cli.commands import SaeDiscover, SaeTrain
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
    from features.sae.step import TrainConfig
    from features.sae.storage import save_sae
    from features.sae.train import train as run_training

    config = TrainConfig(
        steps=command.steps, batch=command.batch, learning_rate=command.learning_rate,
        warmup=min(500, command.steps // 5), sparsity=command.sparsity, chunk=min(50, command.steps),
    )  # fmt: skip
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
    terminal.CONSOLE.print(f"memory: {source.plan(command.batch)}; weights and moments {weights:.2f} GB")
    with terminal.bar("training", command.steps) as advance:
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
    stated = None if found is None else int(found[1]) + (found[2] == "post")
    if stated is not None and wanted is not None and stated != wanted:
        raise ValueError(f"--layer {wanted}: the autoencoder was trained on {hook}, which is state {stated}")
    layer = stated if wanted is None else wanted
    if layer is None:
        raise ValueError("--layer is needed: the autoencoder does not say what it reads")
    return layer


def discover(command: SaeDiscover) -> None:
    """Ranks groups of latents and draws their planes."""
    _one_source(command)
    from features.circles.concepts import get_concept, label_tokens
    from features.sae.storage import load_sae

    concept = None if command.concept is None else get_concept(command.concept)
    if concept is not None and command.text is None:
        raise ValueError("--concept needs --text: labels come from its tokens")
    sae = load_sae(command.sae)
    layer = _hooked_layer(sae.config.hook_name, command.layer) if command.text is not None else 0
    terminal.keep_compiled()
    import jax

    from features.discovery.clusters import ClusterConfig
    from features.discovery.discover import DiscoverConfig, annotate
    from features.discovery.discover import discover as run_discovery
    from features.files import write_json
    from features.report.figures import draw_circles

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
        x = terminal.load_array(command.activations)
    else:
        import jax.numpy as jnp

        run, model, rows = _reader(command, layer)
        parts = []
        with terminal.bar("running the model", len(rows)) as advance:
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
    out = terminal.folder(command.out)
    with terminal.CONSOLE.status("grouping, measuring and ranking"):
        found = run_discovery(sae, x, config, key=jax.random.key(command.seed))
    table = found.table(30)
    shown = Table(title=f"{len(found.candidates)} of {found.groups} groups measured", title_justify="left")
    for name in ("rank", "latents", "score", "S best", "M best", "best plane", "p", "points"):
        shown.add_column(name, justify="right")
    if words is not None:
        shown.add_column("commonest tokens")
    commonest: list[list[str]] = []  # tokens of each candidate
    for row, candidate in zip(table, found.candidates, strict=False):
        cells = [
            str(row["rank"]),
            str(len(candidate.latents)),
            *(str(row[n]) for n in ("score", "S best", "M best")),
        ]
        cells += ["–".join(str(i + 1) for i in candidate.best_plane), str(row["p"]), str(row["points"])]
        if words is not None:
            kinds, counts = np.unique([words[t] for t in candidate.reconstruction.tokens], return_counts=True)
            common = [str(kinds[i]).strip() for i in np.argsort(-counts)[:8]]
            row["tokens"] = common
            commonest.append(common)
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
    terminal.CONSOLE.print(shown)
    panels = []
    for number, (row, candidate) in enumerate(zip(table[:9], found.candidates, strict=False)):
        a, b = candidate.best_plane
        at = candidate.reconstruction.tokens
        names: list[str] = []
        marks = np.full(len(at), -1)
        if words is not None:
            names = list(commonest[number])
            place = {name: i for i, name in enumerate(names)}
            marks = np.array([place.get(words[t].strip(), -1) for t in at])
        title = f"{row['rank']}. score {row['score']}, PC {a + 1}–{b + 1}"
        panels.append((title, candidate.reconstruction.points[:, [a, b]], marks, names))
    draw_circles(panels, out / "planes.png")
    write_json(out / "result.json", {"tokens": found.tokens, "groups": found.groups, "candidates": table})
    written = "planes.png, result.json"
    try:
        from features.report.page import write_page

        write_page(found, words or [""] * found.tokens, out / "planes.html")
        written += ", planes.html"
    except ImportError as error:
        terminal.CONSOLE.print(f"no planes.html: {error}")
    terminal.CONSOLE.print(f"wrote {out}/{written}")
