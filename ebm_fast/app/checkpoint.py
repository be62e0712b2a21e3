"""Checkpoints that survive a kill at any moment and notice damage.

    checkpoint.npz    the arrays of a run's state
    checkpoint.json   the manifest: step, energy, and the sha256 of the file, of every array, and of itself

A save writes checkpoint.npz.new, then replaces the manifest, then renames the new file. Replacing the manifest is
the one moment at which the new checkpoint becomes the current one: before it the old pair is whole, after it the
manifest names the new file by its hash, whichever of the two names that file has when the process dies.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ebm_ref.contracts import Array, CheckpointError, DataError

from .arrays import LIMIT, npz_bytes, npz_read
from .runfolder import os_errors, replace_synced, write_atomic, write_synced

FILE, NEW, MANIFEST = "checkpoint.npz", "checkpoint.npz.new", "checkpoint.json"
FORMAT = 1
FIELDS = {"step": int, "energy": dict, "bytes": int, "sha256": str, "arrays": dict}
MANIFEST_LIMIT = 16 << 20


def checkpoint_save(folder: Path, arrays: dict[str, Array], step: int, energy: dict[str, Any]) -> None:
    """Make (arrays, step, energy) the checkpoint of `folder`; `energy` is the identity that a load must match."""
    content = npz_bytes(arrays)
    manifest = {
        "format": FORMAT,
        "step": step,
        "energy": energy,
        "bytes": len(content),
        "sha256": sha256(content),
        "arrays": {
            name: {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha256(array.tobytes())}
            for name, array in arrays.items()
        },
    }
    manifest["seal"] = seal(manifest)
    with os_errors(folder):
        write_synced(folder / NEW, content)
        write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
        replace_synced(folder / NEW, folder / FILE)


def checkpoint_exists(folder: Path) -> bool:
    """Whether a save in `folder` ever became current."""
    return (folder / MANIFEST).exists() or (folder / FILE).exists()


def checkpoint_load(folder: Path, energy: dict[str, Any] | None = None) -> tuple[dict[str, Array], int]:
    """(arrays, step) of the last good checkpoint; changes nothing.

    Raises CheckpointError when it is missing, truncated, changed in any bit, or of another energy.
    """
    manifest = manifest_read(folder)
    if energy is not None and manifest["energy"] != energy:
        raise CheckpointError(
            f"{folder / FILE}: expected a checkpoint of {json.dumps(energy)}, found one of "
            f"{json.dumps(manifest['energy'])}"
        )
    path = current_file(folder, manifest)
    try:
        arrays = npz_read(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    found = {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha256(array.tobytes())}
        for name, array in arrays.items()
    }
    if found != manifest["arrays"]:
        wrong = sorted(name for name in found | manifest["arrays"] if found.get(name) != manifest["arrays"].get(name))
        raise CheckpointError(f"{path}: arrays differ from the manifest: {', '.join(wrong)}")
    return arrays, manifest["step"]


def checkpoint_settle(folder: Path) -> None:
    """Finish the rename that a kill interrupted, so that the next save cannot overwrite the current file."""
    path = current_file(folder, manifest_read(folder))
    if path.name == NEW:
        with os_errors(folder):
            replace_synced(path, folder / FILE)


def manifest_read(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, its own hash checked."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MANIFEST_LIMIT:
            raise CheckpointError(f"{path}: expected at most {MANIFEST_LIMIT} bytes, found {path.stat().st_size}")
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected a checkpoint's manifest, found nothing") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint's manifest, found a damaged file ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("seal") != seal(manifest):
        raise CheckpointError(f"{path}: expected a sealed manifest, found a changed one")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, found {manifest.get('format')}")
    for key, kind in FIELDS.items():
        if not isinstance(manifest.get(key), kind):
            raise CheckpointError(f"{path}: expected {key} of type {kind.__name__}, found {manifest.get(key)!r}")
    return manifest


def current_file(folder: Path, manifest: dict[str, Any]) -> Path:
    """The file that the manifest describes to the last bit."""
    findings = []
    for path in (folder / FILE, folder / NEW):
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            findings.append(f"{path.name} is missing")
        elif size != manifest["bytes"] or size > LIMIT:
            findings.append(f"{path.name} has {size} bytes, expected {manifest['bytes']}")
        elif sha256(path.read_bytes()) != manifest["sha256"]:
            findings.append(f"{path.name} is damaged: its sha256 differs from the manifest's")
        else:
            return path
    raise CheckpointError(f"{folder}: {findings[0]}")


def seal(manifest: dict[str, Any]) -> str:
    """sha256 of the manifest without its seal, in one canonical spelling."""
    rest = {key: value for key, value in manifest.items() if key != "seal"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
