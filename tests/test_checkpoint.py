"""Run folders and checkpoints: damage is noticed, a kill at any moment leaves a good one, a folder has one user."""

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ebm_fast.app import checkpoint, runfolder
from ebm_fast.app.arrays import npy_read, npz_bytes, npz_read
from ebm_fast.app.checkpoint import checkpoint_load, checkpoint_save, checkpoint_settle
from ebm_fast.app.runfolder import Metrics, check_existing, check_new, lock_folder, metrics_cut, metrics_read
from ebm_ref.contracts import CheckpointError, DataError, RunFolderError

ENERGY = {"kind": "MLPEnergy", "shape": [2], "hidden": [8]}


def state(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {"theta/linear0.w": rng.normal(size=(2, 8)).astype(np.float32), "step": np.array(step), "empty": np.zeros(0)}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a.values(), b.values(), strict=True)
    )


# ------------------------------------------------------------------------------------------- checkpoint


def test_checkpoint__load_gives_what_was_saved(tmp_path: Path) -> None:
    for step in (3, 7):
        checkpoint_save(tmp_path, state(step), step, ENERGY)
        arrays, found = checkpoint_load(tmp_path, ENERGY)
        assert found == step and same(arrays, state(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.json", "checkpoint.npz"]


def test_checkpoint__equal_states_are_equal_bytes() -> None:
    assert npz_bytes(state(1)) == npz_bytes(state(1)) != npz_bytes(state(2))
    members = zipfile.ZipFile(BytesIO(npz_bytes(state(1)))).infolist()
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}  # not the time of the save


@pytest.mark.parametrize("file", ["checkpoint.npz", "checkpoint.json"])
def test_checkpoint__any_flipped_bit_is_noticed(tmp_path: Path, file: str) -> None:
    checkpoint_save(tmp_path, state(1), 1, ENERGY)
    whole = (tmp_path / file).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        (tmp_path / file).write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint_load(tmp_path, ENERGY)
    (tmp_path / file).write_bytes(whole)
    checkpoint_load(tmp_path, ENERGY)


@pytest.mark.parametrize("file", ["checkpoint.npz", "checkpoint.json"])
@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_checkpoint__truncation_is_noticed(tmp_path: Path, file: str, kept: int) -> None:
    checkpoint_save(tmp_path, state(1), 1, ENERGY)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:kept])
    with pytest.raises(CheckpointError):
        checkpoint_load(tmp_path, ENERGY)


@pytest.mark.parametrize("file", ["checkpoint.npz", "checkpoint.json"])
def test_checkpoint__missing_half_is_named(tmp_path: Path, file: str) -> None:
    checkpoint_save(tmp_path, state(1), 1, ENERGY)
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        checkpoint_load(tmp_path, ENERGY)


def test_checkpoint__of_another_energy_is_refused(tmp_path: Path) -> None:
    checkpoint_save(tmp_path, state(1), 1, ENERGY)
    with pytest.raises(CheckpointError, match=r"\[16\].*\[8\]"):
        checkpoint_load(tmp_path, ENERGY | {"hidden": [16]})


def reseal(folder: Path, **changes: object) -> None:
    """A manifest that lies consistently: its own hash is right."""
    manifest = json.loads((folder / "checkpoint.json").read_text()) | changes
    (folder / "checkpoint.json").write_text(json.dumps(manifest | {"seal": checkpoint.seal(manifest)}))


@pytest.mark.parametrize("changes", [{"format": 2}, {"step": "1"}, {"arrays": {}}, {"arrays": None}, {"bytes": 10**15}])
def test_checkpoint__lying_manifest_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    checkpoint_save(tmp_path, state(1), 1, ENERGY)
    reseal(tmp_path, **changes)
    with pytest.raises(CheckpointError):
        checkpoint_load(tmp_path, ENERGY)


def test_checkpoint__pickle_is_not_run(tmp_path: Path) -> None:
    checkpoint_save(tmp_path, state(1), 1, ENERGY)
    file = BytesIO()
    np.savez(file, theta=np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "checkpoint.npz").write_bytes(file.getvalue())
    reseal(tmp_path, bytes=len(file.getvalue()), sha256=checkpoint.sha256(file.getvalue()))
    with pytest.raises(CheckpointError, match="unpickled"):
        checkpoint_load(tmp_path, ENERGY)


class Killed(Exception):
    pass


def save_until(folder: Path, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save step 2 and die at the calls-th system call that writes, or in the middle of it."""
    left, sync = calls, os.fsync

    def dying(real):
        def call(*arguments):
            nonlocal left
            left -= 1
            if left == 0:
                if real is sync and calls % 2:
                    os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                raise Killed
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(runfolder.os, "fsync", dying(os.fsync))
        patch.setattr(runfolder.os, "replace", dying(os.replace))
        checkpoint_save(folder, state(2), 2, ENERGY)


def test_checkpoint__survives_death_at_every_system_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for calls in range(1, 20):
        checkpoint_save(tmp_path, state(1), 1, ENERGY)
        try:
            save_until(tmp_path, calls, monkeypatch)
            break
        except (Killed, OSError):
            arrays, step = checkpoint_load(tmp_path, ENERGY)
            assert same(arrays, state(step))
            seen.append(step)
            checkpoint_settle(tmp_path)
            with pytest.raises((Killed, OSError)):  # dies again in the next save, after settling
                save_until(tmp_path, 1, monkeypatch)
            assert same(checkpoint_load(tmp_path, ENERGY)[0], state(step))
    assert seen == sorted(seen) and set(seen) == {1, 2} and len(seen) == 6


# ---------------------------------------------------------------------------------------------- arrays


def npz_of(**members: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy_of(array: np.ndarray, **pickling: bool) -> bytes:
    file = BytesIO()
    np.save(file, array, **pickling)
    return file.getvalue()


def claiming(shape: bytes) -> bytes:
    """A file of four float64 whose header claims another shape."""
    return npy_of(np.zeros(4)).replace(b"(4,), }" + b" " * (len(shape) - 4), shape + b", }", 1)


BAD_NPY = {
    "truncated": (npy_of(np.zeros(4))[:-1], "32 bytes .* 31 are there"),
    "trailing": (npy_of(np.zeros(4)) + b"x", "32 bytes .* 33 are there"),
    "a petabyte claimed": (claiming(b"(125000000000000,)"), "1000000000000000 bytes"),
    "negative": (claiming(b"(-4,)"), "-32 bytes"),
    "negative twice": (claiming(b"(-2, -2)"), r"shape \(-2, -2\)"),
    "objects": (npy_of(np.array([None, 1]), allow_pickle=True), "nothing is unpickled"),
    "text": (b"1,2,3\n", "header"),
    "empty": (b"", "header"),
    "strings": (npy_of(np.array(["a"])), "expected numbers"),
}


@pytest.mark.parametrize("what", BAD_NPY)
def test_npy_read__damage_is_a_data_error(tmp_path: Path, what: str) -> None:
    content, why = BAD_NPY[what]
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=f"x.npy.*{why}"):
        npy_read(tmp_path / "x.npy")
    (tmp_path / "x.npz").write_bytes(npz_of(x=content))
    with pytest.raises(DataError, match=f"x.npz.*{why}"):
        npz_read(tmp_path / "x.npz")


def test_npz_read__inflating_file_is_refused_by_its_claim(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz_of(x=npy_of(np.zeros(10**6))))
    assert (tmp_path / "x.npz").stat().st_size < 20_000
    with pytest.raises(DataError, match="at most 1000000 bytes"):
        npz_read(tmp_path / "x.npz", limit=10**6)


def test_npz_read__damaged_archive_is_a_data_error(tmp_path: Path) -> None:
    whole = npz_bytes({"x": np.arange(100.0)})
    for content in (whole[:-30], whole.replace(b"\x00\x00\xf0?", b"\x00\x00\xf1?", 1), b"PK", b""):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match="x.npz"):
            npz_read(tmp_path / "x.npz")


def test_npy_read__keeps_order_and_byte_order(tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(3, 4)
    for stored in (array, np.asfortranarray(array), array.astype(">f8")):
        np.save(tmp_path / "x.npy", stored)
        found = npy_read(tmp_path / "x.npy")
        assert np.array_equal(found, array) and found.dtype == np.float64


# ------------------------------------------------------------------------------------------ run folder


def test_lock_folder__second_user_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\nfrom ebm_fast.app.runfolder import lock_folder\n"
        "with lock_folder(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        for attempt in (lambda: check_existing(tmp_path), lambda: lock_folder(tmp_path).__enter__()):
            with pytest.raises(RunFolderError, match=f"in use by process {child.pid}"):
                attempt()
    finally:
        child.kill()
        child.communicate()
    with lock_folder(tmp_path):
        pass


def test_check_new__refuses_what_cannot_become_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}")
    for path, why in (("file", "is a file"), ("file/run", "is a file"), ("old", "holds a run already")):
        with pytest.raises(RunFolderError, match=why):
            check_new(tmp_path / path)
    check_new(tmp_path / "deep" / "new")
    assert not (tmp_path / "deep").exists()
    for path in ("file", "nothing"):
        with pytest.raises(RunFolderError):
            check_existing(tmp_path / path)


def test_metrics__cut_leaves_each_step_once(tmp_path: Path) -> None:
    with Metrics(tmp_path) as metrics:
        for step in range(1, 8):
            metrics.append({"step": step, "gap": step / 3})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "ga')
    assert [r["step"] for r in metrics_cut(tmp_path, 5)] == [1, 2, 3, 4, 5]
    assert metrics_read(tmp_path) == [{"step": s, "gap": s / 3} for s in range(1, 6)]
    with pytest.raises(RunFolderError, match=r"steps 1\.\.6"):
        metrics_cut(tmp_path, 6)
    assert metrics_cut(tmp_path, 0) == [] and metrics_read(tmp_path) == []


def test_metrics__damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    for read in (metrics_read, lambda path: metrics_cut(path, 3)):
        with pytest.raises(RunFolderError, match="record 2"):
            read(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "gap": 0}')  # the end of line never came
    with pytest.raises(RunFolderError, match="record 2"):
        metrics_cut(tmp_path, 2)
    assert metrics_cut(tmp_path, 1) == [{"step": 1}]
