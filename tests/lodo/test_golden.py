"""Recorded double-precision trajectories."""

import jax
import pytest

from benchmarks import lodo_parity as parity
from tests.conftest import DATA


@pytest.mark.parametrize("name", ["quadratic", "rosenbrock", "ablations"])
def test_recorded_trajectories(name):
    file = DATA / "lodo" / f"{name}.npz"
    with jax.enable_x64(True):
        results = parity.run(file)
    assert sum(len(checks) for checks in results.values()) >= (6 if name == "quadratic" else 14)
    beyond = {title: [c for c in checks if not c.ok] for title, checks in results.items()}
    assert not any(beyond.values()), beyond


def test_other_files_are_refused(tmp_path):
    import numpy as np

    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="missing array"):
        parity.run(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ValueError, match="not a readable"):
        parity.run(tmp_path / "text.npz")
