"""Real Jordan form of the transition, with a tolerance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float, Inexact

from mips.networks.relu import ReluRNN
from mips.normalize.basis import Matrix, change_basis, effective_transition

_LARGEST_WEIGHT = 1e4


def jordan(network: ReluRNN, *, eps: float = 0.7, rounds: int = 3) -> ReluRNN:
    """The network with its transition in real Jordan form, as nearly as `eps` says.

    Eigenvalues closer than eps count as one, singular values below eps as zero. Repeated up to `rounds`
    times on the result; a round that finds no basis, or gives a weight that is not finite or exceeds
    10^4, is left out.
    """
    for _ in range(rounds):
        basis = real_jordan_basis(effective_transition(network), eps=eps)
        if basis is None:
            return network
        changed = change_basis(network, np.linalg.inv(basis))
        weights = [a for layer in (*changed.transition, *changed.readout) for a in (layer.weight, layer.bias)]
        if not all(np.isfinite(a).all() and np.abs(a).max(initial=0) <= _LARGEST_WEIGHT for a in weights):
            return network
        network = changed
    return network


def real_jordan_basis(w: Matrix, *, eps: float = 1e-6) -> Matrix | None:
    """P with P^-1 W P in real Jordan form.

    For a real eigenvalue ones above the diagonal, for a complex pair blocks of rotation and scaling. None
    where the tolerance gives no consistent form.
    """
    n = len(w)
    values = np.linalg.eigvals(w)
    near = np.abs(values[:, None] - values) < eps
    if not np.array_equal((near.astype(int) @ near) > 0, near):
        return None  # "close" is not transitive here
    columns: list[Float[np.ndarray, " n"]] = []
    for group in np.unique(near, axis=0):
        members = values[group]
        value = members.mean()
        if abs(value.imag) < 1e-9 or _conjugate_inside(members, eps):
            chains = _chains(w, complex(value.real), len(members), eps)
            if chains is None:
                return None
            columns += [np.real(v) for chain in chains for v in chain]
        elif value.imag > 0:
            chains = _chains(w, complex(value), len(members), eps)
            if chains is None:
                return None
            columns += [part for chain in chains for v in chain for part in (np.real(v), np.imag(v))]
    basis = np.array(columns).T
    if basis.shape != (n, n) or np.linalg.cond(basis) > 1e10:
        return None
    return basis


def _conjugate_inside(members: Inexact[np.ndarray, " members"], eps: float) -> bool:
    return bool(
        all(np.abs(members - m.conjugate()).min() < eps for m in members) and abs(members.mean().imag) < eps
    )


def _null_space(matrix: Complex[np.ndarray, "n n"], eps: float) -> Complex[np.ndarray, "n null"]:
    _, s, vh = np.linalg.svd(matrix)
    return vh[s < eps].conj().T


def _chains(
    w: Matrix, value: complex, multiplicity: int, eps: float
) -> list[list[Complex[np.ndarray, " n"]]] | None:
    """Jordan chains of an eigenvalue, longest first, each from eigenvector to generator."""
    shifted = w - value * np.eye(len(w))
    spaces = [np.zeros((len(w), 0), complex)]
    power = np.eye(len(w), dtype=complex)
    for _ in range(multiplicity):
        power = shifted @ power
        spaces.append(_null_space(power, eps))
        if spaces[-1].shape[1] >= multiplicity:
            break
    sizes = [s.shape[1] for s in spaces]
    if sizes[-1] != multiplicity:
        return None
    chains: list[list[Complex[np.ndarray, " n"]]] = []
    for length in range(len(spaces) - 1, 0, -1):
        longer = [chain[length - 1] for chain in chains]
        wanted = sizes[length] - sizes[length - 1] - len(longer)
        avoid = np.column_stack([spaces[length - 1], *longer]) if longer else spaces[length - 1]
        for candidate in spaces[length].T:
            if wanted <= 0:
                break
            q, _ = np.linalg.qr(avoid) if avoid.shape[1] else (avoid, None)
            rest = candidate - q @ (q.conj().T @ candidate)
            if np.linalg.norm(rest) < 1e-6:
                continue
            top = rest / np.linalg.norm(rest)
            # A complex eigenvector's phase is free; make a large entry real, so that equal runs agree.
            lead = top[np.abs(top).argmax()]
            top = top * (np.abs(lead) / lead)
            chain = [top]
            for _ in range(length - 1):
                chain.append(shifted @ chain[-1])
            chains.append(chain[::-1])
            avoid = np.column_stack([avoid, top])
            wanted -= 1
        if wanted > 0:
            return None
    return chains
