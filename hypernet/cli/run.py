"""What the commands do."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hypernet.analysis.measure import measure
from hypernet.analysis.pareto_front import pareto_front
from hypernet.analysis.phase_diagram import phase_diagram
from hypernet.classification.classify import Classification
from hypernet.classification.classify import classify as classify_network
from hypernet.classification.formulas import Formula, formula
from hypernet.cli.terminal import CONSOLE, folder, keep_compiled, training_bar
from hypernet.files import replacing, write_json
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.gaussians import bits
from hypernet.generator.generate import Generator, draw_network_and_price
from hypernet.networks.read_write import write_network
from hypernet.report import figures
from hypernet.report.gallery import write_gallery
from hypernet.training import checkpoints
from hypernet.training.step import TrainConfig
from hypernet.training.train import SeedStatus, collapsed
from hypernet.training.train import train as train_generators
from hypernet.validation import whole

if TYPE_CHECKING:
    from hypernet.cli.commands import Classify, Gallery, Generate, Phase, Train


def _key(seed: int) -> PRNGKeyArray:
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}: expected 0 to 2^63 - 1")
    return jax.random.key(seed)


def _say(text: str, style: str | None = None) -> None:
    """Prints as it stands: folders may have brackets in their names."""
    CONSOLE.print(text, markup=False, style=style)


def train(options: Train) -> None:
    """`hypernet train`."""
    config, key = options.config, _key(options.seed)
    out = folder(options.out)
    keep_compiled()
    with training_bar(config.steps) as on_chunk:
        trained = train_generators(config, key, out=out, resume=options.resume, on_chunk=on_chunk)
    figures.draw_history(trained.history, out / "history.png")
    lost = np.flatnonzero(collapsed(trained.history))
    if len(lost):
        _say(
            f"seeds {lost.tolist()} send almost nothing at low beta: their posterior has collapsed; "
            "try --kl-warmup 500 or a lower learning rate",
            "yellow",
        )
    broken = [s for s, status in enumerate(trained.statuses) if status is SeedStatus.NON_FINITE]
    if broken:
        _say(
            f"seeds {broken} ended in losses that are not finite; their generators are from before", "yellow"
        )
    last = np.asarray(trained.history.loss)[-500:]
    _say(
        f"{config.seeds} generators of {config.target.name}, {config.steps:,} steps; mean loss of the last "
        f"500, by seed: {', '.join(f'{loss:.4f}' for loss in last.mean(0))}\n"
        f"{out}/history.png; next: hypernet generate --n 7 --beta 1e-4 --run {out}"
    )


def generate(options: Generate) -> None:
    """`hypernet generate`."""
    whole("--count", options.count)
    config = checkpoints.load_config(options.run)
    config.generator.assignment.check_size(options.n)
    if not 0 < options.beta < np.inf:
        raise ValueError(f"--beta {options.beta}: expected a positive, finite price per nat")
    for name, value, count in (
        ("member", options.member, config.seeds),
        ("mode", options.mode, config.generator.modes),
    ):
        if value is not None and not 0 <= value < count:
            raise ValueError(f"--{name} {value}: {options.run} holds {name}s 0 to {count - 1}")
    out = folder(options.out)
    keep_compiled()
    generators = checkpoints.load(options.run)
    member, mode = options.member, options.mode
    key = _key(options.seed)
    low, high = config.generator.log10_beta
    lb = float(np.clip(np.log10(options.beta), low, high))
    if member is None or mode is None:
        member, mode = _best(config, generators, key, options.n, lb, member, mode)
    rows = []
    for k in range(options.count):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            drawn = draw_network_and_price(
                generators.member(member), jax.random.fold_in(key, k), options.n, options.beta, mode=mode
            )
        if k == 0:
            for warning in caught:
                _say(str(warning.message), "yellow")
        name = f"network-{k + 1}"
        row: dict[str, object] = {"n": options.n, "beta": 10.0**lb, "member": member, "mode": mode}
        row |= {"nats": float(drawn.nats), "bits": float(bits(drawn.nats))}
        title = f"n = {options.n}, beta = 10^{lb:g}, {row['bits']:,.0f} bits"
        if len(drawn.mlp.weights) == 1 and not drawn.mlp.vector:
            found = classify_network(drawn.mlp, target=config.target)
            short = formula(found, target=config.target)
            row |= _as_row(found, short)
            title = f"{found.label}, NMSE {found.nmse:.3g}\n{title}"
            write_network(out / f"{name}.npz", drawn.mlp)
            _say(f"{name}: {found.label}, NMSE {found.nmse:.4g}, {row['bits']:,.0f} bits")
            _say(f"  f(x) ≈ {short.text}   (misses {short.unexplained:.1%} of the network's variance)")
        else:
            arrays = {f"W{i + 1}": w for i, w in enumerate(drawn.mlp.weights)}
            arrays |= {f"b{i + 1}": b for i, b in enumerate(drawn.mlp.biases)}
            named: dict[str, Any] = {"v": drawn.mlp.v, "c": drawn.mlp.c, "activation": drawn.mlp.activation}
            named |= arrays  # NumPy types no names beyond its own
            with replacing(out / f"{name}.npz") as partial, partial.open("wb") as file:
                np.savez(file, **named)
            _say(f"{name}: {row['bits']:,.0f} bits")
        figures.draw_network(drawn.mlp, out / f"{name}.png", title=title)
        rows.append(row)
    write_json(out / "result.json", rows)
    _say(f"seed {member}, mode {mode} of {options.run}; files in {out}")


def _best(
    config: TrainConfig,
    generators: Generator,
    key: PRNGKeyArray,
    n: int,
    lb: float,
    member: int | None,
    mode: int | None,
) -> tuple[int, int]:
    """Seed and mode of least median loss at this size and beta."""
    modes = config.generator.modes
    # another key than the networks are drawn from
    key = jax.random.fold_in(key, 10**6)
    measured = measure(generators, config.target, key, n, [lb], networks=16 * modes, points=1024)
    loss = np.full((config.seeds, modes), np.inf)
    for s in range(config.seeds) if member is None else [member]:
        for m in range(modes) if mode is None else [mode]:
            loss[s, m] = np.median(measured.loss[s, 0][measured.mode[s, 0] == m])
    s, m = np.unravel_index(int(loss.argmin()), loss.shape)
    return int(s), int(m)


def _as_row(found: Classification, short: Formula) -> dict[str, object]:
    order = {k: float(v) for k, v in found.order._asdict().items() if np.ndim(v) == 0}
    return {
        "label": found.label,
        "nmse": found.nmse,
        "ambiguous": found.ambiguous,
        "order": order,
        "servers": [[s._asdict() for s in servers] for servers in found.servers],
        "sea": list(found.sea),
        "formula": short.text,
        "unexplained": short.unexplained,
        "formula_nmse": short.nmse,
    }


def classify(options: Classify) -> None:
    """`hypernet classify`."""
    target = options.target
    for path in (options.png, options.out):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    found = classify_network(options.file, activation=options.activation, target=target)
    short = formula(found, target=target)
    _say(f"{options.file}: {found.evidence()}")
    _say(f"f(x) ≈ {short.text}")
    _say(
        f"the formula misses {short.unexplained:.2%} of the network's variance; its NMSE is {short.nmse:.4g}"
    )
    if options.png is not None:
        figures.draw_network(found.mlp, options.png, title=f"{found.label}, NMSE {found.nmse:.3g}")
    if options.out is not None:
        write_json(options.out, _as_row(found, short))


def phase(options: Phase) -> None:
    """`hypernet phase`."""
    config = TrainConfig(
        generator=GeneratorConfig(activation=options.activation),
        target=options.target,
        sizes=options.sizes,
    )
    key = _key(options.seed)
    out = folder(options.out)
    keep_compiled()
    with training_bar(options.steps) as on_chunk:
        diagram, _ = phase_diagram(
            options.seeds, options.log10_betas, options.steps, key=key, n=options.n,
            networks=options.networks, looks=options.looks, config=config, out=out, resume=options.resume,
            on_chunk=on_chunk,
        )  # fmt: skip
    diagram.write_csv(out / "phase.csv")
    figures.draw_phase_diagram(diagram, out / "phase.png")
    states = diagram.ground_states()
    write_json(
        out / "result.json",
        {"log10_betas": diagram.log10_betas, "labels": figures.LABEL_NAMES, "shares": diagram.shares(),
         "branches": diagram.branches(), "ground_states": states},
    )  # fmt: skip
    for state, shares in zip(states, diagram.shares(), strict=True):
        parts = [
            f"{name} {share:.0%}" for name, share in zip(figures.LABEL_NAMES, shares, strict=True) if share
        ]
        ground = f"ground state {state.label:14s} loss {state.loss:.4f}"
        _say(f"beta 10^{state.log10_beta:<5g} {ground}   {', '.join(parts)}")
    _say(f"{out}/phase.png, phase.csv, result.json; next: hypernet gallery --run {out}")


def gallery(options: Gallery) -> None:
    """`hypernet gallery`."""
    config = checkpoints.load_config(options.run)
    config.generator.assignment.check_size(options.n)
    config.target.check_size(options.n)
    key = _key(options.seed)
    whole("--networks", options.networks)
    out = folder(options.out)
    keep_compiled()
    generators = checkpoints.load(options.run)
    with CONSOLE.status("drawing networks"):
        front = pareto_front(
            generators,
            key,
            options.n,
            target=config.target,
            networks=options.networks,
        )
        shown = write_gallery(front, config.target, out / "gallery.html")
        figures.draw_front(front, out / "front.png", title=f"{config.target.name}, n = {options.n}")
    write_json(out / "result.json", {"n": options.n, "target": config.target.name, "shown": shown})
    for about in shown:
        numbers = f"beta 10^{about['log10_beta']:g}, {about['bits']:,.0f} bits, NMSE {about['nmse']:.4g}"
        _say(f"{about['label']} {numbers}")
        if "formula" in about and "unexplained" in about:
            _say(f"  f(x) ≈ {about['formula']}   (misses {about['unexplained']:.1%})")
    _say(f"{out}/gallery.html, front.png")
