"""The Ray engine on a local cluster (more of it: `benchmarks.compressarc_elastic`)."""

import subprocess
import sys

import pytest

from compressarc import cli, elastic
from compressarc.batch import run_batch
from tests.compressarc import batches
from tests.compressarc.test_batch import histories_equal


def test_the_same_bits_as_the_mesh_engine(subprocess_env, compilation_cache, tmp_path):
    pytest.importorskip("ray")
    mesh, ray = batches.make(tmp_path / "mesh"), batches.make(tmp_path / "ray")
    run_batch(mesh)
    code = (
        "import sys; from compressarc.elastic import run_elastic; from compressarc.run_folder import RunFolder;"
        f"assert run_elastic(RunFolder({str(ray.folder)!r}), cache={str(compilation_cache)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=subprocess_env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    histories_equal(ray, mesh)
    assert len(list((ray.folder / "log").iterdir())) >= 1 and (ray.folder / "submission.json").exists()


def test_what_a_worker_asks_for():
    assert elastic.worker_resources({"CPU": 8}) == {"num_cpus": 1}
    assert elastic.worker_resources({"CPU": 8, "GPU": 2})["num_gpus"] == 1
    assert elastic.worker_resources({"CPU": 8, "TPU": 4})["resources"] == {"TPU": 1}


def test_the_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["batch", "--engine", "ray", "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'quintet-jax[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "settings.json").exists()
