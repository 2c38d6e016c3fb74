"""The arithmetic of an adapter's weights: apart, because NumPy is needed for it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def norm(tensor: dict[str, Any], side: str, rank: int) -> float:
    """Frobenius norm of a deserialised tensor. Raises ValueError for a wrong shape or type, or a number that is not finite."""
    rows_columns = tensor["shape"]
    if len(rows_columns) != 2 or rows_columns[0 if side == "A" else 1] != rank or 0 in rows_columns:
        raise ValueError(f"shape {rows_columns} does not fit rank {rank}")
    values = _float32(tensor["dtype"], tensor["data"])
    if not np.isfinite(values).all():
        raise ValueError("holds NaN or infinity")
    return float(np.sqrt(np.square(values, dtype=np.float64).sum()))


def _float32(dtype: str, data: bytes | bytearray) -> NDArray[np.float32]:
    """Little-endian F32, F16 or BF16 as float32; bfloat16 is the upper half of a float32."""
    if dtype == "F32":
        return np.frombuffer(data, "<f4")
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    raise ValueError(f"dtype {dtype} is not F32, F16 or BF16")
