"""The Ray engine on a local cluster (more of it: `benchmarks.compressarc_elastic`)."""

import sys

from compressarc.batch import ray_engine as elastic
from compressarc.cli import main as cli


def test_what_a_worker_asks_for():
    assert elastic.worker_resources({"CPU": 8}) == {"num_cpus": 1}
    assert elastic.worker_resources({"CPU": 8, "GPU": 2})["num_gpus"] == 1
    assert elastic.worker_resources({"CPU": 8, "TPU": 4})["resources"] == {"TPU": 1}


def test_the_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["batch", "--engine", "ray", "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'quintet-jax[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "settings.json").exists()
