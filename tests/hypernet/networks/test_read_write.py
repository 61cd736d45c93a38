"""Files and forms of networks: round trips, fuzzed files, names of activations."""

import io
import zipfile

import chex
import equinox as eqx
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.networks.mlp import ACTIVATIONS, MLP
from hypernet.networks.read_write import activation_name, read_file, read_network, write_network
from tests.hypernet import plain

finite = st.floats(-1e100, 1e100)


@st.composite
def networks(draw):
    """W, b, v, c of any network that can be written: without units, of equal, tiny and huge weights too."""
    n, hidden = draw(st.integers(1, 3)), draw(st.integers(0, 3))

    def array(*shape):
        return draw(hnp.arrays(np.float64, shape, elements=finite))

    return array(n, hidden), array(hidden), array(hidden), array()


@given(arrays=networks(), activation=st.sampled_from(sorted(ACTIVATIONS)))
def test_what_is_written_is_read_bit_for_bit(arrays, activation, tmp_path_factory):
    W, b, v, c = arrays
    mlp = MLP((W,), (b,), v, c, activation)
    path = tmp_path_factory.mktemp("net") / "net.npz"
    write_network(path, mlp)
    found = read_network(path)
    chex.assert_trees_all_equal(found, mlp)
    assert [p.name for p in path.parent.iterdir()] == ["net.npz"]
    # and every other form of the same arrays says the same
    forms = (
        mlp,
        (mlp.W, mlp.b, mlp.v, mlp.c),
        [mlp.W, mlp.b, mlp.v[:, None], np.atleast_1d(mlp.c)],
        {"W": mlp.W, "b": mlp.b, "v": mlp.v, "c": mlp.c},
        {"params": {"W": mlp.W.tolist(), "b": mlp.b, "v": mlp.v, "c": mlp.c}},
    )
    for form in forms:
        chex.assert_trees_all_equal(read_network(form, activation=mlp.activation), mlp)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint64", "bool", ">f8", "<i4"])
def test_any_kind_of_numbers_is_read_as_double_precision(dtype, tmp_path):
    W, v = np.array([[1, 0], [0, 1]], dtype), np.array([1, 0], dtype)
    np.savez(tmp_path / "net.npz", W=W, v=v, activation="silu")
    found = read_network(tmp_path / "net.npz")
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(float)}
    np.testing.assert_array_equal(found.W, np.eye(2))
    # what is left out is zero
    assert not found.b.any() and found.c == 0 and found.activation == "swish"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    mlp = hypernet.pudding(3)
    write_network(folder / "plain.npz", mlp)
    np.savez_compressed(folder / "small.npz", W=mlp.W, b=mlp.b, v=mlp.v, c=mlp.c, activation="swish")
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def read_or_named(path):
    """Damage may go unnoticed where no byte of it is read; noticed, it is one error with the file's name."""
    try:
        found = read_file(path)
    except (ValueError, TypeError) as error:
        assert str(path) in str(error)
    else:
        assert isinstance(found, MLP)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("form", ["plain", "small"])
def test_a_file_cut_anywhere_is_named(form, written, tmp_path):
    data, path = written[form], tmp_path / "cut.npz"
    for end in np.linspace(0, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"cut\.npz is no \.npz file"):
            read_file(path)


@pytest.mark.parametrize("form", ["plain", "small"])
@given(data=st.data())
def test_a_file_with_other_bytes_is_read_or_named(form, data, written, tmp_path_factory):
    mutated = bytearray(written[form])
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutated") / "net.npz"
    path.write_bytes(mutated)
    read_or_named(path)


def header_of(text):
    """An array file whose header says this."""
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 3), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '<M8[D]', 'fortran_order': False, 'shape': (2,), }",
        "'''",
        "",
    ],
)
@pytest.mark.parametrize("name", ["W", "v", "c"])
def test_an_array_with_an_impossible_header_is_named(text, name, tmp_path):
    path = tmp_path / "net.npz"
    np.savez(
        path, activation="relu", **{k: a for k, a in {"W": np.eye(2), "v": np.ones(2)}.items() if k != name}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", header_of(text))
    read_or_named(path)


def test_an_encrypted_file_and_a_single_array_are_named(written, tmp_path):
    locked = written["plain"].replace(
        b"PK\x01\x02\x14\x00\x14\x00\x00\x00", b"PK\x01\x02\x14\x00\x14\x00\x01\x00"
    )
    memory = io.BytesIO()
    np.save(memory, np.eye(2))
    for name, data in (("locked", locked), ("one", memory.getvalue()), ("empty", b"")):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        read_or_named(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("W", np.zeros((0, 2)), r"W has shape \(0, 2\)"),
        ("W", np.float64(1), r"W has shape \(\)"),
        ("W", np.array([["a", "b"]]), "arrays of numbers"),
        ("v", np.ones((2, 2)), r"v has shape \(2, 2\)"),
        ("v", np.array([1, np.inf]), "v holds 1 values that are not finite"),
        ("b", np.ones((2, 1)), r"b has shape \(2, 1\)"),
        ("b", np.array([1e101, 0]), "b holds values above 1e100"),
        ("c", np.ones(2), r"c has shape \(2,\)"),
        ("c", np.array(1j), "complex"),
        ("activation", "sine", "'sine' is not known"),
        ("activation", np.array(["relu", "relu"]), "is not known"),
        ("d", np.eye(1), r"holds \['d'\] too"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(key, value, said, tmp_path):
    arrays = {"W": np.eye(2), "v": np.ones(2), "b": np.ones(2), "c": 0.0, "activation": "relu"}
    np.savez(tmp_path / "net.npz", **(arrays | {key: value}))
    with pytest.raises((ValueError, TypeError), match=rf"net\.npz: .*{said}"):
        read_network(tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"W": [[1.0]], "v": [1.0], "c": 10**400}, "arrays of numbers"),
        ({"W": [[1.0], [1.0, 2.0]], "v": [1.0]}, "arrays of numbers"),
        ({"W": [[None]], "v": [1.0]}, "not finite"),
        ((np.eye(2), np.zeros(2)), "a sequence of 2 arrays"),
        (
            {"a": {"kernel": np.eye(2)}, "b": {"kernel": np.eye(2)}, "c": {"kernel": np.eye(2)}},
            "a mapping with the keys",
        ),
        (plain.random_network(0, (2, 3), batch=(2,)), "use classify_many"),
        (plain.random_network(0, (2, 3), outputs=2), r"v has shape \(3, 2\)"),
        (eqx.nn.MLP(2, 1, 3, 2, key=jax.random.key(0)), "depth 2"),
    ],
)
def test_what_cannot_be_read_says_what_is_wrong(network, said):
    given_name = None if isinstance(network, (MLP, eqx.nn.MLP)) else "relu"
    with pytest.raises((ValueError, TypeError), match=said):
        read_network(network, activation=given_name)


def test_flax_parameters_are_told_apart_by_their_shapes_whatever_their_names():
    rng = np.random.default_rng(0)
    first = {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}
    last = {"kernel": rng.normal(size=(4, 1))}
    for tree in ({"a": first, "b": last}, {"z": last, "y": first}, {"params": {"b": first, "a": last}}):
        found = read_network(tree, activation=jax.nn.silu)
        np.testing.assert_array_equal(found.W, first["kernel"])
        np.testing.assert_array_equal(found.b, first["bias"])
        np.testing.assert_array_equal(found.v, last["kernel"][:, 0])
        assert found.c == 0


def test_equinox_layers_may_lack_biases():
    net = eqx.nn.MLP(
        3, 1, 5, 1, activation=jnp.tanh, use_bias=False, use_final_bias=False, key=jax.random.key(1)
    )
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        plain.forward(read_network(net), x), jax.vmap(net)(x)[:, 0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_library_s_own_activations_keep_their_names(name):
    assert activation_name(ACTIVATIONS[name]) == name
    assert activation_name(name) == name


@pytest.mark.parametrize(
    ("given_name", "error"),
    [(3, TypeError), ("sine", ValueError), (jnp.sin, ValueError), (lambda u: u, ValueError)],
)
def test_activations_nobody_knows_are_refused(given_name, error):
    with pytest.raises(error):
        activation_name(given_name)


def test_gelu_as_a_function_is_jax_s_form_of_it():
    assert activation_name(jax.nn.gelu) == "gelu-tanh"
    assert activation_name(jax.nn.silu) == "swish"


@pytest.mark.parametrize(
    "mlp",
    [
        hypernet.tournament(4),
        plain.random_network(0, (2, 3), outputs=1),
        plain.random_network(0, (2, 3), batch=(1,)),
    ],
)
def test_only_what_can_be_read_again_is_written(mlp, tmp_path):
    with pytest.raises(ValueError, match="one network with one hidden layer and one output"):
        write_network(tmp_path / "net.npz", mlp)
    assert not list(tmp_path.iterdir())
