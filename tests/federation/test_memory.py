"""What users own on disk: whole files of the last rounds, one folder per user."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict
from torch import Tensor

from clients import disk, memory
from fedmeta.config import ConfigError

FRESH = {"own/b": torch.zeros(2), "own/mix": torch.zeros(())}
USERS = ["anna", "bert", "carl"]
NAMES = ["", ".", "..", "/", "a/b", "../../up", "nul\0", "Ünï 🙂", "a" * 5000, "CON", "line\nbreak"]
"""Ids that a file system would not take, or would take for something else."""


def values(round_number: int, users: int = len(USERS)) -> dict[str, Tensor]:
    """What users keep after a round, all different."""
    base = 100.0 * round_number + torch.arange(users)
    return {"own/b": torch.stack([base, base + 0.5], dim=1), "own/mix": base + 0.25}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in b)


def rows(given: dict[str, Tensor], at: list[int]) -> dict[str, Tensor]:
    return {name: value[at] for name, value in given.items()}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_newcomers_own_what_is_fresh(tmp_path: Path) -> None:
    found = memory.load(tmp_path / "none", USERS, 1, FRESH)
    assert same(found, {n: v.expand(3, *v.shape) for n, v in FRESH.items()})
    assert not (tmp_path / "none").exists()  # looking leaves nothing behind


def test_what_is_kept_comes_back_in_any_order(tmp_path: Path) -> None:
    memory.save(tmp_path, USERS, 1, values(1))
    assert same(memory.load(tmp_path, USERS, 2, FRESH), values(1))
    turned = memory.load(tmp_path, ["carl", "dora", "anna"], 2, FRESH)
    assert same(rows(turned, [0, 2]), rows(values(1), [2, 0]))
    assert same(rows(turned, [1]), {n: v[None] for n, v in FRESH.items()})
    other = tmp_path / "other"  # written in another order, and apart
    memory.save(other, USERS[::-1], 1, rows(values(1), [2, 1, 0]))
    apart = tmp_path / "apart"
    for at, user in enumerate(USERS):
        memory.save(apart, [user], 1, rows(values(1), [at]))
    for folder in (other, apart):
        assert same(memory.load(folder, USERS, 2, FRESH), values(1))


def test_a_round_that_is_repeated_begins_as_it_did(tmp_path: Path) -> None:
    memory.save(tmp_path, USERS, 3, values(3))
    memory.save(tmp_path, USERS, 5, values(5))
    for _ in range(2):
        assert same(memory.load(tmp_path, USERS, 5, FRESH), values(3))
        memory.save(tmp_path, USERS, 5, values(5))
    assert same(memory.load(tmp_path, USERS, 6, FRESH), values(5))
    assert same(memory.load(tmp_path, USERS, 3, FRESH), memory.load(tmp_path, ["x"] * 3, 3, FRESH))


def test_the_last_rounds_are_kept(tmp_path: Path) -> None:
    numbers = [1, 2, 8, 9, 10, 11]  # as numbers: "9" sorts after "11"
    for number in numbers:
        memory.save(tmp_path, USERS[:1], number, values(number, 1))
    assert memory.KEPT >= 2  # a round that is repeated needs the one before it
    assert {int(path.stem) for path in files(tmp_path)} == set(numbers[-memory.KEPT :])
    memory.save(tmp_path, USERS[1:2], 4, values(4, 1))  # a user who was not there for long
    memory.save(tmp_path, USERS[1:2], 30, values(30, 1))
    assert same(memory.load(tmp_path, USERS[1:2], 30, FRESH), values(4, 1))


def test_ids_of_any_characters(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for at, name in enumerate(NAMES):
        memory.save(home, [name], 1, values(at, 1))
    for at, name in enumerate(NAMES):
        assert same(memory.load(home, [name], 2, FRESH), values(at, 1))
    assert len(files(home)) == len(NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]  # nothing beside it
    assert all(path.name == "1.safetensors" for path in files(tmp_path))


@pytest.mark.parametrize(
    "fresh",
    [
        {"own/b": torch.zeros(3), "own/mix": torch.zeros(())},
        {"own/b": torch.zeros(2)},
        {"own/b": torch.zeros(2), "own/other": torch.zeros(())},
    ],
    ids=["shape", "fewer", "names"],
)
def test_foreign_memory_is_refused(tmp_path: Path, fresh: dict[str, Tensor]) -> None:
    memory.save(tmp_path, ["anna"], 1, values(1, 1))
    with pytest.raises(ConfigError, match=r"user 'anna' .* holds own/b \(2,\), own/mix \(\)"):
        memory.load(tmp_path, ["anna"], 2, fresh)
    with pytest.raises(ConfigError, match=r"give run\.memory a new folder"):
        memory.load(tmp_path, ["newcomer", "anna"], 2, fresh)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    memory.save(tmp_path, ["anna"], 1, values(1, 1))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ConfigError, match=r"user 'anna' at .*1\.safetensors' is damaged"):
        memory.load(tmp_path, ["anna"], 2, FRESH)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.save(tmp_path, ["anna"], 1, values(1, 1))

    def half(given: dict[str, Tensor], path: Path) -> None:
        Path(path).write_bytes(b"half of i")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(memory, "save_file", half)
        for number in (1, 2):
            with pytest.raises(OSError, match="No space"):
                memory.save(tmp_path, ["anna"], number, values(7, 1))
    assert same(memory.load(tmp_path, ["anna"], 3, FRESH), values(1, 1))
    memory.save(tmp_path, ["anna"], 2, values(2, 1))  # what is left over is in nobody's way
    assert same(memory.load(tmp_path, ["anna"], 3, FRESH), values(2, 1))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_the_disk_has_it_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is synced under its first name, then renamed, then its folder is synced."""
    synced: list[tuple[Path, bool]] = []
    plain = os.fsync

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        done = not path.is_dir() or any(path.rglob("*.safetensors"))
        synced.append((path, done))
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(disk, "_FILE_SYSTEM", None)  # a system that has no call for all at once
    home = tmp_path / "memory"
    for number in (1, 2):
        synced.clear()
        memory.save(home, USERS, number, values(number))
        kinds = [path.is_dir() for path, _ in synced]
        assert kinds == sorted(kinds)  # all files, then folders
        parts = [path for path, _ in synced if path.suffix == ".part"]
        assert len(parts) == len(set(parts)) == len(USERS)
        folders = {path for path, done in synced if path.is_dir() and done}
        mine = {path.parent for path in files(home)}
        above = {folder.parent for folder in mine} | {home, tmp_path}
        assert folders == (mine | above if number == 1 else mine)
    assert not list(home.rglob("*.part"))


def test_a_chunk_is_synced_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with all files under their first names, once when all have their last; no oftener."""
    seen: list[tuple[int, int]] = []

    def file_system(handle: int) -> int:
        parts, whole = (list(tmp_path.rglob(f"*.{end}")) for end in ("part", "safetensors"))
        seen.append((len(parts), len(whole)))
        os.fstat(handle)  # of something that is open
        return 0

    monkeypatch.setattr(disk, "_FILE_SYSTEM", file_system)
    memory.save(tmp_path, USERS, 1, values(1))
    assert seen == [(len(USERS), 0), (0, len(USERS))]
    monkeypatch.setattr(disk, "_FILE_SYSTEM", lambda handle: -1)
    with pytest.raises(OSError, match="part"):
        memory.save(tmp_path, USERS, 2, values(2))
    assert same(memory.load(tmp_path, USERS, 3, FRESH), values(1))


WRITER = """
import sys, torch
from pathlib import Path
from clients import memory
print("up", flush=True)
for number in range(1, 10**6):
    memory.save(Path(sys.argv[1]), ["anna"], number, {"own/b": torch.full((1, 200_000), number)})
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_process_leaves_whole_files(tmp_path: Path) -> None:
    """Killed anywhere in the act, what is there can be read and is one round's, all of it."""
    fresh = {"own/b": torch.zeros(200_000, dtype=torch.int64)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while not any(path.name == "2.safetensors" for path in files(tmp_path)):
            time.sleep(0.005)
        time.sleep(0.1)
        writer.send_signal(signal.SIGKILL)
    found = memory.load(tmp_path, ["anna"], 10**7, fresh)["own/b"][0]
    last = max(int(path.stem) for path in files(tmp_path) if path.suffix == ".safetensors")
    assert last > 1
    assert bool((found == last).all())


def test_where_memory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device's own setting comes first, then the run's, then a folder by the run's id."""

    def context(node: dict[str, str], run: dict[str, str]) -> Context:
        return Context(71, 1, dict(node), RecordDict(), dict(run))

    both = context({"memory": "/device"}, {"run.memory": "/run"})
    assert memory.folder_of(both) == Path("/device")
    assert memory.folder_of(context({}, {"run.memory": "/run"})) == Path("/run")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert memory.folder_of(context({}, {})) == tmp_path / "fedmeta" / "71"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert memory.folder_of(context({}, {})) == tmp_path / ".local/state/fedmeta/71"
