"""Numbers out of the bytes of a client: nothing is made before header and length are right."""

import math
import re

import numpy as np
from numpy.typing import NDArray

LONGEST = 1024
"""Most bytes before the numbers; numpy writes 128."""

_HEADER = re.compile(
    rb"\{'descr': '<f([48])', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,200})\), \} *\n"
)
_DTYPES = {"float32": b"4", "float64": b"8"}


class NotAnArrayError(ValueError):
    """Bytes that are not the array that was expected; the message says why."""


def numbers(data: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """A read-only view of the array in the bytes of a `.npy` file, version 1.0.

    The header is compared with what is expected, never believed: no field of it decides how much
    memory is asked for, and none of it is evaluated.

    Args:
        data: the whole file.
        dtype: `float32` or `float64`, little-endian.
        shape: of the array.

    Raises:
        NotAnArrayError: another header, or more or fewer bytes than it needs.
    """
    if data[:8] != b"\x93NUMPY\x01\x00":
        raise NotAnArrayError("it does not begin as numpy's format 1.0 does")
    start = 10 + int.from_bytes(data[8:10], "little")
    if start > LONGEST:
        raise NotAnArrayError(f"its header has {start} bytes; expected at most {LONGEST}")
    found = _HEADER.fullmatch(data[10:start])
    if found is None:
        raise NotAnArrayError("its header is not that of an array of floating-point numbers")
    size, fortran, extents = found.groups()
    if size != _DTYPES[dtype]:
        raise NotAnArrayError(f"its header says float{8 * int(size)}; expected {dtype}")
    if extents != str(shape)[1:-1].encode():
        raise NotAnArrayError(f"its header says ({extents.decode()}); expected {shape}")
    bytes_ = math.prod(shape) * int(size)
    if len(data) - start != bytes_:
        raise NotAnArrayError(f"it has {len(data) - start} bytes of numbers; expected {bytes_}")
    flat = np.frombuffer(data, f"<f{int(size)}", offset=start)
    return flat.reshape(shape, order="F" if fortran == b"True" else "C")
