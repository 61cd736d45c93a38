"""The algorithm of a network as a short formula, and how much of the network it explains.

A generated network carries noise on every weight. The formula keeps what its algorithm needs: one slope per
kind of spike, fitted amplitudes, the sea, and a constant; for convexity a radial function. The share of the
network's variance that is left over says how good a summary it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from hypernet.classification.classify import Classification, classify
from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP, Activation
from hypernet.targets import L1, Target

if TYPE_CHECKING:
    import sympy


# Forms of each label, simplest first. Spikes of both signs and a sea depend on each other (swish and ReLU:
# phi(u) = phi(-u) + u), so all three together come last.
_FORMS = {
    "double_sided": (("spikes+", "spikes-"), ("spikes+", "spikes-", "sea")),
    "pudding_pos": (("spikes-", "sea"),),
    "pudding_neg": (("spikes+", "sea"),),
    "pudding_mixed": (("spikes+", "sea"),),
    "convexity": (("radial",),),
}
_OTHER = (("sea",), ("radial",), ("radial", "sea"))


class Term(NamedTuple):
    """amplitude * (what `text` says)."""

    name: str  # spikes+, spikes-, spikes, sea, radial
    amplitude: float
    slope: float  # of the spikes; 0 for other terms


class Formula(NamedTuple):
    """A short formula for a network."""

    label: str
    terms: tuple[Term, ...]
    constant: float
    signs: tuple[int, ...]  # of the inputs; all 1 but in a mixed pudding
    activation: str
    unexplained: float  # share of the network's variance that the formula misses
    nmse: float  # of the formula against the target

    @property
    def text(self) -> str:
        """The formula in Unicode, three digits."""
        x = "x" if all(s > 0 for s in self.signs) else "s x"
        shown = []
        for term in self.terms:
            phi = self.activation
            body = {
                "spikes+": f"Σ {phi}({term.slope:.3g} {x})",
                "spikes-": f"Σ {phi}(−{term.slope:.3g} {x})",
                "sea": f"Σ {x}",
                "radial": "‖x‖₂",
            }[term.name]
            shown.append(f"{'−' if term.amplitude < 0 else '+'} {abs(term.amplitude):.3g} {body}")
        shown.append(f"{'−' if self.constant < 0 else '+'} {abs(self.constant):.3g}")
        text = " ".join(shown).removeprefix("+ ")
        if x == "x":
            return text
        return f"{text}, s = ({', '.join('+' if s > 0 else '−' for s in self.signs)})"

    def expression(self) -> sympy.Expr:
        """The formula as sympy, of symbols x1 .. xn."""
        import sympy

        from hypernet.networks.canonical import activation_expression

        phi = activation_expression(self.activation)
        symbols = sympy.symbols(f"x1:{len(self.signs) + 1}", real=True)
        signed = [s * x for s, x in zip(self.signs, symbols, strict=True)]
        total = sympy.Float(self.constant)
        for term in self.terms:
            body = {
                "spikes+": lambda t: sympy.Add(*(phi(t.slope * x) for x in signed)),
                "spikes-": lambda t: sympy.Add(*(phi(-t.slope * x) for x in signed)),
                "sea": lambda _: sympy.Add(*signed),
                "radial": lambda _: sympy.sqrt(sympy.Add(*(x**2 for x in symbols))),
            }[term.name](term)
            total += term.amplitude * body
        return total


_ROUNDING = 1e-12
"""Share of the variance that terms which explain nothing more may still seem to explain."""


def formula(
    network: object,
    *,
    activation: str | Activation | None = None,
    target: Target = L1,
    points: int = 20_000,
    least_share: float = 0.01,
) -> Formula:
    """The short formula of a network with one hidden layer and one output.

    Args:
        network: as for `classify`, or what it returned.
        least_share: a form of the label is taken if more terms would explain at most this share of the
            network's variance beyond it.
    Raises: as `classify`.
    """
    found = (
        network
        if isinstance(network, Classification)
        else classify(network, activation=activation, target=target, points=points)
    )
    mlp, p = found.mlp, found.order
    n = mlp.inputs
    x = np.asarray(target.sample(jax.random.key(1), points, n), np.float64)
    with jax.enable_x64(True):
        y = np.asarray(target.value(jax.numpy.asarray(x)))
    f = evaluate64(mlp, x)
    mixed = found.label == "pudding_mixed"
    signs = np.where(p.K_plus >= p.K_minus, 1, -1) if mixed else np.ones(n, int)
    signed = x * signs
    slopes = _slopes(mlp, found, signs)
    columns = {}
    phi = _activation64(mlp.activation)
    structured = found.label not in ("convexity", "none")
    if structured and slopes[0] > 0:
        columns["spikes+"] = phi(slopes[0] * signed).sum(1)
    if structured and slopes[1] > 0:
        columns["spikes-"] = phi(-slopes[1] * signed).sum(1)
    columns["sea"] = signed.sum(1)
    if not structured or found.label == "mixed":
        columns["radial"] = np.linalg.norm(x, axis=1)
    if f.std() <= 1e-12 * max(1.0, np.abs(f).max()):  # a constant
        columns = {}
    full = _fit(columns, list(columns), f)[0] if columns else 0.0
    choices = [[k for k in names if k in columns] for names in _FORMS.get(found.label, _OTHER)]
    choices = [names for names in choices if names] + [list(columns)]
    for names in choices:  # the first form that does nearly as well as all terms together
        if not columns:
            left, amplitudes, constant = 0.0, [], float(f.mean())
            break
        left, amplitudes, constant = _fit(columns, names, f)
        if left - full <= max(least_share, _ROUNDING):
            break
    slope_of = {"spikes+": slopes[0], "spikes-": slopes[1]}
    terms = tuple(
        Term(k, float(a), float(slope_of.get(k, 0))) for k, a in zip(names, amplitudes, strict=True)
    )
    g = constant + sum(a * columns[k] for k, a in zip(names, amplitudes, strict=True))
    nmse = float(np.mean((g - y) ** 2) / target.variance_of(n))
    return Formula(
        found.label, terms, float(constant), tuple(int(s) for s in signs), mlp.activation, float(left), nmse
    )


def _fit(
    columns: dict[str, Float[np.ndarray, " points"]], names: list[str], f: Float[np.ndarray, " points"]
) -> tuple[float, Float[np.ndarray, " terms"], float]:
    """The share of f that a fit by these columns misses, their amplitudes and the constant."""
    A = np.column_stack([columns[k] for k in names])
    mean, spread = A.mean(0), A.std(0)
    # nearly dependent terms would cancel in large amplitudes: small singular values are left out
    scaled = np.linalg.lstsq((A - mean) / spread, f - f.mean(), rcond=0.03)[0]
    amplitudes = scaled / spread
    constant = f.mean() - mean @ amplitudes
    left = np.mean((f - A @ amplitudes - constant) ** 2)
    return left / max(float(f.var()), 1e-300), amplitudes, constant


def _slopes(mlp: MLP, found: Classification, signs: Int[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean length of the spikes along and against the inputs' signs, weighted by their pull."""
    W = np.asarray(mlp.W)
    totals = np.zeros((2, 2))
    for i, servers in enumerate(found.servers):
        for server in servers:
            side = 0 if server.sign == signs[i] else 1
            pull = max(server.pull, 0)
            totals[side] += pull * abs(W[i, server.unit]), pull
    along, against = (float(a / b) if b > 0 else 0.0 for a, b in totals)
    return along, against


def _activation64(name: str) -> Callable[[Float[np.ndarray, "*shape"]], Float[np.ndarray, "*shape"]]:
    from hypernet.networks.mlp import activation_named

    def phi(u: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        with jax.enable_x64(True):
            return np.asarray(activation_named(name)(jax.numpy.asarray(u, jax.numpy.float64)))

    return phi
