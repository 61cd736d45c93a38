"""Programs kept on disk: found without tracing, and never mistaken for another."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compressarc.solver import program_cache as programs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_compiled", {})
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


def compiled(traces, static=2.0, shape=(3,)):
    def scale(a, b):
        traces.append(shape)
        return {"scaled": a["x"] * static + b[0]}

    arguments = {"x": jnp.ones(shape)}, (jnp.zeros(()),)
    return programs.compiled_program(
        scale, *arguments, {"scaled": 0}, static=("scale", static), compiler_options={}, platform="cpu"
    )


def test_traced_once_over_processes(cache):
    traces = []
    first = compiled(traces)
    programs._compiled.clear()  # as in another process
    second = compiled(traces)
    assert len(traces) == 1 and len(list(cache.iterdir())) == 1
    for program in (first, second):
        out = program({"x": jnp.arange(3.0)}, (jnp.float32(1),))
        np.testing.assert_array_equal(out["scaled"], [1, 3, 5])


def test_other_shapes_static_values_and_settings_are_other_programs(cache):
    traces = []
    compiled(traces)
    compiled(traces, shape=(4,))
    out = compiled(traces, static=3.0)({"x": jnp.ones(3)}, (jnp.float32(0),))
    np.testing.assert_array_equal(out["scaled"], 3)
    with jax.default_matmul_precision("highest"):
        compiled(traces)
    assert len(traces) == 4 == len(list(cache.iterdir()))


def test_a_damaged_file_is_traced_anew(cache):
    traces = []
    compiled(traces)
    (file,) = cache.iterdir()
    file.write_bytes(b"damaged")
    programs._compiled.clear()
    compiled(traces)
    programs._compiled.clear()
    compiled(traces)
    assert len(traces) == 2


def test_the_result_must_have_the_structure_told(cache):
    with pytest.raises(TypeError, match="expected"):
        programs.compiled_program(
            lambda a, b: (a, b),
            jnp.ones(2),
            jnp.ones(2),
            {"x": 0},
            static="wrong",
            compiler_options={},
            platform="cpu",
        )


def test_an_unwritable_cache_costs_only_time(cache, monkeypatch):
    def full(path, content):
        raise OSError("full")

    monkeypatch.setattr(programs, "replace_file", full)
    assert compiled([])({"x": jnp.ones(3)}, (jnp.float32(0),))["scaled"].shape == (3,)


def test_what_is_said_to_be_in_the_cache_is_there(tmp_path):
    """Entries that are cut off, gone or elsewhere are not; those that are cut off are removed."""

    def mark():
        return programs._Mark(tmp_path, "program")

    first = mark()
    assert not first.holds()
    first.write()  # nothing has come since: a full disk
    assert not mark().holds()
    (tmp_path / "a-cache").write_bytes(b"x" * 100)
    first.write()
    assert mark().holds()
    (tmp_path / "a-cache").write_bytes(b"x" * 50)
    assert not mark().holds() and not (tmp_path / "a-cache").exists()
    again = mark()
    (tmp_path / "a-cache").write_bytes(b"x" * 100)
    again.write()
    assert mark().holds()
    copy = tmp_path.with_name("copy")
    shutil.copytree(tmp_path, copy)
    assert not programs._Mark(copy, "program").holds()
