"""The instrument that reads what compilers for TPUs and GPUs say; small loops stay within their bounds."""

import contextlib
import dataclasses
import json
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accelerators import __main__ as command
from benchmarks.accelerators.compiled_text import Module, figures
from benchmarks.accelerators.loops import COUNT, LOOPS, QUICK, Loop
from benchmarks.accelerators.targets import TARGETS, check_installed

ROOT = Path(__file__).parents[1]


def entry(*lines, before=""):
    return before + "ENTRY %main (p: f32[4]) -> f32[4] {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_tpus_tiles_are_eight_by_a_hundred_and_twenty_eight(rows, columns):
    found = figures(
        entry(
            f"%p = f32[{rows},{columns}]{{1,0:T(8,128)}} parameter(0)",
            f"ROOT %c = f32[{rows},{columns}]{{0,1:T(8,128)}} copy(%p)",
        )
    )
    assert found.far_logical == 2 * 4 * rows * columns and found.kernels == 1
    up = lambda n, to: -(-n // to) * to  # noqa: E731
    one, other = up(rows, 8) * up(columns, 128), up(columns, 8) * up(rows, 128)
    assert found.far_padded == 4 * (one + other) and found.padding == found.far_padded / found.far_logical


def test_what_lies_in_the_near_memory_is_no_traffic_to_the_far_one():
    found = figures(
        entry(
            "%p = bf16[16,128]{1,0:T(8,128)(2,1)S(1)} parameter(0)",
            "ROOT %c = bf16[16,128]{1,0:T(8,128)(2,1)} copy(%p)",
        )
    )
    assert found.logical == 2 * 2 * 16 * 128 and found.far_logical == 2 * 16 * 128


LOOP = """\
%body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[4]{0} get-tuple-element(%t), index=1
  %y = f32[4]{0} negate(%x)
  ROOT %r = (s32[], f32[4]{0}) tuple(%i, %y)
}

%condition (t: (s32[], f32[4])) -> pred[] {
  %t = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %n = BOUND
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

"""


@pytest.mark.parametrize(
    ("bound", "config", "times"),
    [
        ("s32[] constant(30)", "", 30),
        ("s32[] get-tuple-element(%t), index=0", "", 1),  # steps that came in from outside: one is looked at
        (
            "s32[] get-tuple-element(%t), index=0",
            ', backend_config={"known_trip_count":{"n":"7"},"known_init_step":{"init":"0","step":"1"}}',
            7,
        ),
    ],
)
def test_loops_count_as_often_as_they_run(bound, config, times):
    text = entry(
        "%p = (s32[], f32[4]{0}) parameter(0)",
        f"ROOT %w = (s32[], f32[4]{{0}}) while(%p), condition=%condition, body=%body{config}",
        before=LOOP.replace("BOUND", bound),
    )
    found = figures(text)
    assert found.kernels == times and found.logical == times * 2 * 16


BRANCHES = """\
%little (a: f32[4]) -> f32[4] {
  ROOT %a = f32[4]{0} parameter(0)
}

%much (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %b = f32[4]{0} negate(%a)
  ROOT %c = f32[4]{0} negate(%b)
}

"""


def test_of_a_conditional_the_branch_that_moves_most_counts():
    text = entry(
        "%p = f32[4]{0} parameter(0)",
        "%i = s32[] constant(0)",
        "ROOT %w = f32[4]{0} conditional(%i, %p, %p), branch_computations={%little, %much}",
        before=BRANCHES,
    )
    assert figures(text).kernels == 2


FUSED = """\
%fused (a: f32[100,4], i: s32[]) -> f32[1,4] {
  %a = f32[100,4]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %s = f32[1,4]{1,0} dynamic-slice(%a, %i, %z), dynamic_slice_sizes={1,4}
}

%update (a: f32[100,4], u: f32[1,4], i: s32[]) -> f32[100,4] {
  %a = f32[100,4]{1,0} parameter(0)
  %u = f32[1,4]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %z = s32[] constant(0)
  ROOT %s = f32[100,4]{1,0} dynamic-update-slice(%a, %u, %i, %z)
}

"""


def test_of_slices_what_is_taken_or_replaced_counts():
    text = entry(
        "%p = f32[100,4]{1,0} parameter(0)",
        "%i = s32[] parameter(1)",
        "%f = f32[1,4]{1,0} fusion(%p, %i), kind=kLoop, calls=%fused",
        "ROOT %g = f32[100,4]{1,0} fusion(%p, %f, %i), kind=kLoop, calls=%update",
        before=FUSED,
    )
    # a row read, a row written and the index; a row read, a row written in place and the index
    assert figures(text).logical == (16 + 16 + 4) + (16 + 16 + 4)


def test_products_collectives_and_transfers_are_told_apart():
    found = figures(
        entry(
            "%p = f32[8,8]{1,0} parameter(0)",
            "%d = f32[8,8]{1,0} dot(%p, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}, operand_precision={highest,highest}",
            "%e = f32[8,8]{1,0} dot(%d, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
            "%r = f32[8,8]{1,0} all-reduce(%e), to_apply=%sum",
            "%s = (f32[8,8]{1,0}, f32[8,8]{1,0:S(1)}, u32[]) copy-start(%r)",
            "ROOT %t = f32[8,8]{1,0:S(1)} copy-done(%s)",
        )
    )
    assert found.products == {"f32 highest": 1, "f32 default": 1}
    assert found.collectives == {"all-reduce": 1} and found.transfers == 1 and found.kernels == 2


def test_figures_are_of_one_step_and_a_tpus_scalars_are_no_kernels():
    text = entry(
        "%i = s32[]{:T(128)S(6)} parameter(0)",
        "%p = f32[4]{0} parameter(1)",
        "%j = s32[]{:T(128)S(6)} add(%i, %i)",
        "%s = s32[]{:T(128)S(6)} fusion(%j), kind=kLoop, calls=%nothing",
        "%a = f32[4]{0} negate(%p)",
        "%b = f32[4]{0} negate(%a)",
        "ROOT %c = f32[4]{0} negate(%b)",
    )
    found = figures(text, tpu=True)
    assert (found.kernels, found.scalars) == (4, 1)
    found = figures(text, tpu=True, steps=2)
    assert (found.kernels, found.scalars, found.logical) == (2, 1, (3 * 2 * 16 + 3 * 4 + 2 * 4) / 2)
    assert figures(text).kernels == 5  # elsewhere they are


def test_a_transfer_reads_once_and_writes_once():
    found = figures(
        entry(
            "%p = f32[4,128]{1,0} parameter(0)",
            "%a = (f32[4,128]{1,0:S(1)}, f32[4,128]{1,0}, u32[]) copy-start(%p)",
            "%b = f32[4,128]{1,0:S(1)} copy-done(%a)",
            "%c = ((f32[4,128]{1,0}), f32[1,128]{1,0:S(1)}, s32[]) slice-start(%p), slice={[0:1], [0:128]}",
            "ROOT %d = f32[1,128]{1,0:S(1)} slice-done(%c)",
        )
    )
    whole, row = 4 * 4 * 128, 4 * 128
    assert found.far_logical == whole + row and found.logical == 2 * (whole + row)
    assert (found.transfers, found.kernels) == (2, 0)


@pytest.mark.usefixtures("types_unchecked")  # of states whose arrays are shapes
@pytest.mark.parametrize("target", ["v5e", "h100"])
def test_every_loop_is_made_for_every_kind_of_target(target):
    """Shapes alone: nothing is computed, nothing compiled."""
    for name, make in LOOPS.items():
        loop = make(TARGETS[target])
        leaves = jax.tree.leaves(loop.arguments)
        assert leaves and all(hasattr(leaf, "shape") for leaf in leaves), name
        assert loop.spread is None or len(loop.spread) == len(loop.arguments)


def test_text_that_is_none():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Module("HloModule nothing\n")


def test_a_row_beyond_its_bounds_says_so(monkeypatch):
    monkeypatch.setitem(command.BOUNDS, ("mine", "v5e"), {"kernels": 10, "padding": 1.3})
    row = {"loop": "mine", "target": "v5e", "kernels": 11, "padding": 1.2}
    assert command.exceeded(row) == ["kernels 11 > 10"]
    assert command.exceeded(row | {"target": "h100"}) == []


def test_rows_take_the_place_of_their_like(tmp_path):
    path = tmp_path / "results.json"
    row = lambda loop, target, kernels: {"loop": loop, "target": target, "kernels": kernels}  # noqa: E731
    assert command.updated(path, [row("lodo/random", "v5e", 1)]) == [row("lodo/random", "v5e", 1)]
    path.write_text(
        json.dumps([row("lodo/random", "v5e", 1), row("lodo/random", "h100", 2), row("gone", "v5e", 3)])
    )
    assert command.updated(path, [row("mips/gru", "h100", 5), row("lodo/random", "v5e", 4)]) == [
        row("lodo/random", "h100", 2),
        row("mips/gru", "h100", 5),
        row("gone", "v5e", 3),
        row("lodo/random", "v5e", 4),
    ]


def test_the_table_of_the_docs_is_the_committed_one():
    committed = json.loads((command.output.COMMITTED / "accelerators.json").read_text())
    assert command.markdown(committed) in (ROOT / "docs" / "accelerators.md").read_text()
    assert {row["loop"] for row in committed} == set(LOOPS)


def test_every_bound_is_of_a_loop_and_a_target():
    assert all(loop in LOOPS and target in TARGETS for loop, target in command.BOUNDS)
    assert set(QUICK) <= set(LOOPS)


def decays(state, count):
    import jax.numpy as jnp

    return jax.lax.fori_loop(0, count, lambda _, s: s * 0.5 + jnp.sin(s), state), jnp.sum(state)


@pytest.mark.usefixtures("types_unchecked")
def test_loops_are_timed_on_the_device_that_is_here(monkeypatch, tmp_path, capsys):
    import jax.numpy as jnp

    from benchmarks.accelerators import on_device

    state = jax.ShapeDtypeStruct((1000,), jnp.float32)
    made = {
        "mine/loop": lambda target: Loop(decays, (state, COUNT), "1,000 numbers", count=10),
        "mine/two": lambda target: Loop(decays, (state, COUNT), "1,000 numbers", devices=99),
        "mine/broken": lambda target: Loop(lambda s, c: (s + jnp.ones(3), c), (state, COUNT), "nothing"),
    }
    monkeypatch.setattr(on_device, "LOOPS", made)
    monkeypatch.setattr(on_device.output, "COMMITTED", tmp_path)
    monkeypatch.setattr("sys.argv", ["on_device", "--quick"])
    assert on_device.main() == 1
    (written,) = (tmp_path / "quick").glob("on_device_*.json")
    loop, two, broken = json.loads(written.read_text())["rows"]
    assert 0 < loop["step_seconds_least"] <= loop["step_seconds"] < 1 and loop["kernels"] >= 1
    assert loop["calls"] >= 2 and loop["argument_bytes"] >= 4000
    assert two["left_out"] == f"99 devices; {len(jax.local_devices())} here"
    assert broken["error"].startswith("TypeError")
    monkeypatch.setattr("sys.argv", ["on_device", "--quick", "--within", "0", "--only", "mine/loop"])
    assert on_device.main() == 0
    assert "left out: no time" in capsys.readouterr().out


def test_what_is_missing_is_named_with_its_extra():
    nowhere = dataclasses.replace(TARGETS["v5e"], platform="tpu")
    with contextlib.suppress(ModuleNotFoundError):
        check_installed(nowhere)
        pytest.skip("libtpu is installed")
    with pytest.raises(ModuleNotFoundError, match=r"quintet-jax\[aot-tpu\]"):
        check_installed(nowhere)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["v5e", "h100"])
@pytest.mark.parametrize(
    "loop",
    ["lodo/shuffle", "lodo/devices", "features/topk", "features/decoder", "hypernet/tables", "mips/gru"],
)
def test_small_loops_stay_within_their_bounds(loop, target):
    try:
        check_installed(TARGETS[target])
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    row = command.compile_apart(loop, TARGETS[target], 500)
    assert "error" not in row, row
    assert (loop, target) in command.BOUNDS and not command.exceeded(row), row
