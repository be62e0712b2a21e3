"""Read `.npy` and `.npz` files that may be damaged or hostile.

Nothing is unpickled. What a header claims is compared with the bytes that are there, in both directions
(truncated and trailing), and with a size limit, before anything of that size is allocated.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from ebm_ref.contracts import Array, DataError

LIMIT = 2 << 30  # bytes, unpacked
HEADER_ERRORS = (ValueError, SyntaxError, TokenError, EOFError, TypeError, OverflowError, struct.error)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, struct.error)


def npy_read(path: Path, limit: int = LIMIT) -> Array:
    """The array in a `.npy` file; DataError names the file, what was expected and what was found."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > limit:
                raise DataError(f"{path}: expected at most {limit} bytes, found {size}")
            return array_read(file, size, str(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def npz_read(path: Path, limit: int = LIMIT) -> dict[str, Array]:
    """The named arrays of a `.npz` file; DataError names the file, the member, what was expected and found."""
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > limit:
                raise DataError(f"{path}: expected at most {limit} bytes unpacked, found a claim of {total}")
            for member in members:
                name, where = member.filename.removesuffix(".npy"), f"{path}: member {member.filename}"
                if name == member.filename or name in arrays:
                    raise DataError(f"{where}: expected unique names that end in .npy")
                with archive.open(member) as file:
                    arrays[name] = array_read(file, member.file_size, where)
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: expected a whole .npz file, found a damaged one ({error})") from error
    return arrays


def array_read(file: BinaryIO, size: int, where: str) -> Array:
    """The array of `size` bytes in .npy format at the head of `file`, read to its end (so that CRCs are checked)."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
    except HEADER_ERRORS as error:
        raise DataError(f"{where}: expected a .npy header, found {error}") from error
    if dtype.kind not in "biuf":
        raise DataError(f"{where}: expected numbers, found dtype {dtype} (nothing is unpickled)")
    claimed, held = prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or claimed != held:
        raise DataError(f"{where}: the header claims {claimed} bytes for shape {shape}, {held} are there")
    body = file.read(held + 1)
    if len(body) != held:
        raise DataError(f"{where}: expected {held} bytes, found {len(body)}")
    flat = np.frombuffer(body, dtype=dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if fortran else "C")


def npz_bytes(arrays: dict[str, Array]) -> bytes:
    """The `.npz` file of these arrays; equal arrays give equal bytes."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())  # ZipInfo's date is fixed: 1980-01-01
    return file.getvalue()
