"""Linear networks and systems: rounded impulse response, exact realization.

    y_t = o_t + sum_k m_k x_{t-k},   m_k = W_y W_h^k W_x,   o_t = b_y + W_y sum_{k<t} W_h^k b

Both are invariant under every change of hidden coordinates, so no lattice is needed to read them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int, Shaped

from mips.networks.relu import ReluRNN
from mips.programs import expression as ex
from mips.programs.expression import Expr
from mips.programs.program import Program
from mips.reading.finite_memory import lag_registers
from mips.reading.oracle import Oracle
from mips.reading.symbolic_lifting import input_names
from mips.tasks.task import Inputs, Outputs, Sequences

_LARGEST = 2.0**52  # beyond, a double says nothing about its distance from an integer


@dataclasses.dataclass(frozen=True, eq=False)
class Response:
    """An affine linear system by what it answers."""

    impulse: Int[np.ndarray, "length outputs inputs"]
    """m_k"""
    offset: Int[np.ndarray, "length outputs"]
    """o_t, the answer to zeros"""
    deviation: float
    """largest distance of the network's entries from these integers; inf where the network grows beyond
    2^52 or is not finite, and the integers are zeros"""

    def run(self, x: Inputs) -> Outputs:
        """Outputs by convolution, for sequences up to the response's length."""
        y = np.zeros((len(x), x.shape[1], self.offset.shape[1]), np.int64) + self.offset[: x.shape[1]]
        for k in range(x.shape[1]):
            y[:, k:] += x[:, : x.shape[1] - k] @ self.impulse[k].T
        return y


def response_of_weights(network: ReluRNN, length: int) -> Response:
    """The rounded response of a network with affine transition and readout, from its weights in float64.

    Raises ValueError for a network with inner layers.
    """
    if not network.is_linear:
        raise ValueError("the network has inner layers; ask it with `response_of_oracle`")
    n = network.hidden
    weight = np.asarray(network.transition[0].weight, np.float64)
    bias = np.asarray(network.transition[0].bias, np.float64)
    read = np.asarray(network.readout[0].weight, np.float64)
    read_bias = np.asarray(network.readout[0].bias, np.float64)
    recurrent, into = weight[:, :n], weight[:, n:]
    reach, drift = into, bias
    state = np.zeros(n)
    impulse, offset = [], []
    with np.errstate(over="ignore", invalid="ignore"):  # a network that diverges says so by its deviation
        for _ in range(length):
            impulse.append(read @ reach)
            state = state + drift
            offset.append(read_bias + read @ state)
            reach, drift = recurrent @ reach, recurrent @ drift
    return _rounded(np.array(impulse), np.array(offset))


def _rounded(
    impulse: Float[np.ndarray, "length outputs inputs"], offset: Float[np.ndarray, "length outputs"]
) -> Response:
    entries = np.concatenate([impulse.ravel(), offset.ravel()])
    if not (np.abs(entries) < _LARGEST).all():  # nor where one is not a number
        return Response(np.zeros(impulse.shape, np.int64), np.zeros(offset.shape, np.int64), float("inf"))
    return Response(
        np.round(impulse).astype(np.int64),
        np.round(offset).astype(np.int64),
        float(np.abs(entries - np.round(entries)).max()),
    )


def response_of_oracle(oracle: Oracle, length: int, *, low: int, high: int) -> Response | None:
    """The response of any network by probing; None when its answers are not those of a linear system.

    Impulses are put on three base sequences; a linear system answers each with the same difference.
    """
    rng = np.random.default_rng(0)
    bases = rng.integers(low, high, size=(3, length, oracle.inputs))
    step = 1
    room = bases[:, 0] + step < high
    bases[:, 0] = np.where(room, bases[:, 0], bases[:, 0] - step)
    if (bases[:, 0] < low).any():
        return None
    changed = np.repeat(bases, oracle.inputs, axis=0)
    for i in range(len(changed)):
        changed[i, 0, i % oracle.inputs] += step
    difference = oracle.run(changed) - np.repeat(oracle.run(bases), oracle.inputs, axis=0)
    difference = difference.reshape(3, oracle.inputs, length, oracle.outputs)
    if not (difference == difference[0]).all():
        return None
    impulse = np.moveaxis(difference[0], 0, 2)
    response = Response(impulse, np.zeros((length, oracle.outputs), np.int64), 0.0)
    offset = oracle.run(bases) - response.run(bases)
    if not (offset == offset[0]).all():
        return None
    return dataclasses.replace(response, offset=offset[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Realization:
    """s' = A s + B [x; 1],  y = C s': an exact system of least order over the rationals.

    The form of the network itself, whose output reads the new state, so `order` is the least number of
    hidden units of a linear network with this behavior.
    """

    a: Shaped[np.ndarray, "order order"]  # the three hold fractions
    b: Shaped[np.ndarray, "order driven"]
    c: Shaped[np.ndarray, "outputs order"]

    @property
    def order(self) -> int:
        """Number of state variables."""
        return len(self.a)

    @property
    def integral(self) -> bool:
        """Whether every coefficient is an integer."""
        return all(v.denominator == 1 for m in (self.a, self.b, self.c) for v in m.ravel())


def realize(response: Response) -> Realization | None:
    """The system of least order with this response, by an exact rank decision on the Hankel matrix.

    The constant is an input of its own, 1 at every step. None when the response is too short to tell.
    """
    length, outputs, inputs = response.impulse.shape
    if length < 2:
        return None
    constant = np.diff(response.offset, axis=0, prepend=np.zeros((1, outputs), np.int64))
    markov = np.concatenate([response.impulse, constant[..., None]], axis=2)  # (length, outputs, inputs + 1)
    half = length // 2
    # Rows (lag i, output), columns (lag j, input): markov[i + j].
    hankel = np.block([[markov[i + j] for j in range(half)] for i in range(length - half + 1)])
    rows = _independent_rows(hankel)
    if not rows:
        return Realization(*(np.empty(shape, object) for shape in ((0, 0), (0, inputs + 1), (outputs, 0))))
    # State: the chosen rows, which are future outputs. A shifts a row by one lag, i.e. by `outputs` rows.
    if max(rows) + outputs >= len(hankel):
        return None
    basis = hankel[rows]
    a = _express(hankel[[r + outputs for r in rows]], basis)
    c = _express(hankel[:outputs], basis)
    if a is None or c is None:
        return None
    b = basis[:, : inputs + 1].astype(object) * Fraction(1)
    reach = b
    for k in range(length):
        if not (c @ reach == markov[k].astype(object)).all():
            return None
        reach = a @ reach
    return Realization(a, b, c)


def _independent_rows(matrix: Int[np.ndarray, "rows columns"]) -> list[int]:
    """Numbers of the first rows that are independent of those before, decided exactly."""
    pivots: list[tuple[int, list[Fraction]]] = []
    chosen = []
    for number, row in enumerate(matrix):
        rest = [Fraction(int(v)) for v in row]
        for column, pivot in pivots:
            if rest[column]:
                factor = rest[column] / pivot[column]
                rest = [r - factor * p for r, p in zip(rest, pivot, strict=True)]
        lead = next((i for i, v in enumerate(rest) if v), None)
        if lead is not None:
            pivots.append((lead, rest))
            chosen.append(number)
    return chosen


def _express(
    rows: Int[np.ndarray, "rows columns"], basis: Int[np.ndarray, "order columns"]
) -> Shaped[np.ndarray, "rows order"] | None:
    """Coefficients X with X basis = rows over the rationals; None if there are none."""
    import sympy as sp
    from sympy.polys.matrices import DomainMatrix

    order = len(basis)
    columns = _independent_rows(basis.T)
    square = DomainMatrix([[sp.QQ(int(v)) for v in row] for row in basis[:, columns]], (order, order), sp.QQ)
    right = DomainMatrix(
        [[sp.QQ(int(v)) for v in row] for row in rows[:, columns]], (len(rows), order), sp.QQ
    )
    solution = right * square.inv()
    found = np.array(
        [[Fraction(int(v.numerator), int(v.denominator)) for v in row] for row in solution.to_list()],
        dtype=object,
    ).reshape(len(rows), order)
    if not (found @ basis.astype(object) == rows.astype(object)).all():
        return None
    return found


def _combination(terms: list[tuple[int, Expr]], constant: int = 0) -> Expr:
    """A sum of integer multiples, positive terms first."""
    terms = sorted((t for t in terms if t[0]), key=lambda t: t[0] < 0)
    result: Expr | None = None
    for factor, expr in terms:
        part = expr if abs(factor) == 1 else ex.apply("*", ex.const(abs(factor)), expr)
        if result is None:
            result = part if factor > 0 else ex.apply("neg", part)
        else:
            result = ex.apply("+" if factor > 0 else "-", result, part)
    if result is None:
        return ex.const(constant)
    if constant:
        result = ex.apply("+" if constant > 0 else "-", result, ex.const(abs(constant)))
    return result


def state_space_program(system: Realization) -> Program | None:
    """The realization as a program; None unless all coefficients are integers."""
    if not system.integral:
        return None
    inputs = system.b.shape[1] - 1
    names = input_names(inputs)
    if system.order > 20:
        return None
    state = tuple([s for s in "abcdefghijklmnopqrstuvwxyz" if s not in names][: system.order])

    def line(of_state: Shaped[np.ndarray, " order"], of_input: Shaped[np.ndarray, " driven"]) -> Expr:
        terms = [(int(f), ex.var(s)) for f, s in zip(of_state, state, strict=True)]
        terms += [(int(f), ex.var(n)) for f, n in zip(of_input[:-1], names, strict=True)]
        return _combination(terms, int(of_input[-1]))

    return Program(
        names,
        state,
        (0,) * system.order,
        tuple(line(a, b) for a, b in zip(system.a, system.b, strict=True)),
        tuple(line(a, b) for a, b in zip(system.c @ system.a, system.c @ system.b, strict=True)),
        kind="linear",
    )


def recurrence_program(response: Response, *, most: int = 8) -> Program | None:
    """A shortest recurrence with integer coefficients, y_t = sum a_j y_{t-j} + sum b_i x_{t-i} + c.

    Values before the start are zero. None if there is none with up to `most` lags.
    """
    length, _, inputs = response.impulse.shape
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 10, size=(40, length, inputs))
    y = response.run(x)
    for total in range(most + 1):
        for back in range(total + 1):
            program = fit_recurrence(x, y, past_outputs=back, past_inputs=total - back)
            if program is not None:
                return program
    return None


def fit_recurrence(
    x: Inputs, y: Outputs, *, past_outputs: int, past_inputs: int, tolerance: float = 0.0
) -> Program | None:
    """The integer recurrence with these lags that gives y from x, by rounded least squares.

    `tolerance`: share of rows that may be missed (a network's errors).
    """
    inputs, outputs = x.shape[2], y.shape[2]
    if max(past_outputs, past_inputs) >= x.shape[1]:
        return None
    columns = [lag_columns(x, k) for k in range(past_inputs + 1)]
    columns += [lag_columns(y, k) for k in range(1, past_outputs + 1)]
    design = np.concatenate([*columns, np.ones((*x.shape[:2], 1), np.int64)], axis=2)
    design, target = design.reshape(-1, design.shape[2]), y.reshape(-1, outputs)
    if np.abs(design).max() > 1e9 or np.abs(target).max() > 1e9:
        return None
    solution, *_ = np.linalg.lstsq(design.astype(np.float64), target.astype(np.float64), rcond=None)
    rounded = np.round(solution).astype(np.int64)
    if (design @ rounded != target).any(axis=1).mean() > tolerance:
        return None
    names, out = input_names(inputs), lag_names(outputs)
    labels = [f"{n}{k}" if k else n for k in range(past_inputs + 1) for n in names]
    labels += [f"{n}{k}" for k in range(1, past_outputs + 1) for n in out]
    forms = tuple(
        _combination([(int(f), ex.var(n)) for f, n in zip(column[:-1], labels, strict=True)], int(column[-1]))
        for column in rounded.T
    )
    return lagged_program(names, forms, kind="linear", past_outputs=past_outputs, past_inputs=past_inputs)


def lag_columns(values: Sequences, lag: int) -> Sequences:
    """Values `lag` steps earlier, zero before the start."""
    return values if not lag else np.pad(values, ((0, 0), (lag, 0), (0, 0)))[:, :-lag]


def lag_names(outputs: int) -> tuple[str, ...]:
    """Names of past outputs without their lag."""
    if outputs == 1:
        return ("y",)
    return tuple("pqmnk"[:outputs]) if outputs <= 5 else tuple(f"out{i}_" for i in range(outputs))


def lagged_program(
    names: tuple[str, ...],
    outputs: tuple[Expr, ...],
    *,
    kind: str,
    past_outputs: int,
    past_inputs: int,
    output_start: int = 0,
) -> Program:
    """A program over past inputs (x1, x2, ...) and past outputs (y1, y2, ...); unused lags are left out."""
    state, initial, updates = lag_registers(names, past_inputs, (0,) * len(names), outputs)
    used = set().union(*(ex.names(e) for e in outputs))
    for name, output in zip(lag_names(len(outputs)), outputs, strict=True):
        deepest = max((k for k in range(1, past_outputs + 1) if f"{name}{k}" in used), default=0)
        for k in range(1, deepest + 1):
            state.append(f"{name}{k}")
            initial.append(output_start)
            updates.append(ex.var(f"{name}{k - 1}") if k > 1 else output)
    return Program(names, tuple(state), tuple(initial), tuple(updates), outputs, kind=kind)


def linear_programs(response: Response, system: Realization | None) -> Iterator[Program]:
    """Programs with this response: a recurrence, and the state-space form where it is integral."""
    program = recurrence_program(response)
    if program is not None:
        yield program
    if system is not None:
        program = state_space_program(system)
        if program is not None:
            yield program
