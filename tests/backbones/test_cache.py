"""A file that is not exactly what was written is never used, and always replaced."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from fedmeta.backbones import BackboneError, cache

KEY, OTHER = "a" * 64, "a" * 16 + "b" * 48  # the same file name
RIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


class Counted:
    """A computation that counts how often it ran."""

    def __init__(self, value: cache.Features = RIGHT) -> None:
        self.value, self.calls = value, 0

    def __call__(self) -> cache.Features:
        self.calls += 1
        return self.value.copy()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    cache.cached(tmp_path, "made", KEY, 4, Counted())
    (path,) = tmp_path.iterdir()
    return path


def test_second_call_computes_nothing_and_maps_the_file(tmp_path: Path) -> None:
    compute = Counted()
    for _ in range(2):
        found = cache.cached(tmp_path / "new" / "folder", "made", KEY, 4, compute)
        np.testing.assert_array_equal(found, RIGHT)
        assert isinstance(found, np.memmap)
        found[:] = 0.0  # the map is copy-on-write: the file is not touched
    assert compute.calls == 1


def test_is_an_ordinary_npy_file(filled: Path) -> None:
    np.testing.assert_array_equal(np.load(filled), RIGHT)


def test_every_flipped_byte_is_noticed(filled: Path) -> None:
    good = filled.read_bytes()
    for at in range(len(good)):
        filled.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert cache.load(filled, KEY, 4) is None, at
    filled.write_bytes(good)
    assert cache.load(filled, KEY, 4) is not None


def test_every_truncation_and_extension_is_noticed(filled: Path) -> None:
    good = filled.read_bytes()
    for length in range(len(good)):
        filled.write_bytes(good[:length])
        assert cache.load(filled, KEY, 4) is None, length
    filled.write_bytes(good + b"0")
    assert cache.load(filled, KEY, 4) is None


@pytest.mark.parametrize("near", range(-130, 131, 13))
def test_sizes_around_a_block(tmp_path: Path, near: int) -> None:
    value = np.ones((1, (cache.BLOCK - 128 + near) // 4), dtype=np.float32)
    compute = Counted(value)
    for _ in range(2):
        np.testing.assert_array_equal(cache.cached(tmp_path, "made", KEY, 1, compute), value)
    assert compute.calls == 1


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[140] ^= 64
    path.write_bytes(raw)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign_key(path: Path) -> None:
    path.unlink()
    cache.cached(path.parent, "made", OTHER, 4, Counted(RIGHT + 1))
    assert path.exists()


def foreign_rows(path: Path) -> None:
    path.unlink()
    cache.cached(path.parent, "made", KEY, 5, Counted(np.ones((5, 3), dtype=np.float32)))
    assert path.exists()


def foreign_type(path: Path) -> None:
    np.save(path, RIGHT.astype(np.float64))


def new_trailer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64] + b"0" * 64)


@pytest.mark.parametrize(
    "damage",
    [flip, truncate, empty, foreign_key, foreign_rows, foreign_type, new_trailer, Path.unlink],
)
def test_what_is_not_ours_is_computed_anew(filled: Path, damage: Callable[[Path], None]) -> None:
    damage(filled)
    compute = Counted()
    for _ in range(2):
        found = cache.cached(filled.parent, "made", KEY, 4, compute)
        np.testing.assert_array_equal(found, RIGHT)
    assert compute.calls == 1
    assert list(filled.parent.iterdir()) == [filled]


def test_a_file_in_use_survives_its_replacement(filled: Path) -> None:
    found = cache.load(filled, KEY, 4)
    foreign_key(filled)
    np.testing.assert_array_equal(found, RIGHT)


def test_racing_threads_end_with_one_valid_file(tmp_path: Path) -> None:
    barrier = Barrier(4)

    def compute() -> cache.Features:
        barrier.wait(timeout=60)  # no one finds the file of another
        return RIGHT.copy()

    with ThreadPoolExecutor(4) as pool:
        races = [pool.submit(cache.cached, tmp_path, "made", KEY, 4, compute) for _ in range(4)]
        for race in races:
            np.testing.assert_array_equal(race.result(), RIGHT)
    (path,) = tmp_path.iterdir()
    assert cache.load(path, KEY, 4) is not None


def _race(where: Path, rounds: int) -> bool:
    """In another process: each finds the right features, whoever deletes the file meanwhile."""
    for turn in range(rounds):
        found = cache.cached(where, "made", KEY, 4, Counted())
        if not np.array_equal(found, RIGHT):
            return False
        if turn % 3 == 0:
            (where / f"made-{KEY[:16]}.npy").unlink(missing_ok=True)
    return True


def test_racing_processes_end_with_one_valid_file(tmp_path: Path) -> None:
    with get_context("spawn").Pool(2) as pool:
        assert pool.starmap(_race, [(tmp_path, 200)] * 2) == [True, True]
    np.testing.assert_array_equal(cache.cached(tmp_path, "made", KEY, 4, Counted()), RIGHT)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_vanishes_at_once_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "load", lambda *_: None)
    found = cache.cached(tmp_path, "made", KEY, 4, Counted())
    np.testing.assert_array_equal(found, RIGHT)


def test_unwritable_folder_is_found_out_before_computing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    compute = Counted()
    with pytest.raises(BackboneError, match=r"'.*file/inside'.*--set backbone.cache=DIR"):
        cache.cached(tmp_path / "file" / "inside", "made", KEY, 4, compute)
    assert compute.calls == 0


def test_read_only_folder_is_found_out_before_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # chmod does not stop root

    monkeypatch.setattr(Path, "touch", denied)
    compute = Counted()
    with pytest.raises(BackboneError, match=r"Permission denied.*--set backbone.cache=DIR"):
        cache.cached(tmp_path, "made", KEY, 4, compute)
    assert compute.calls == 0


def test_what_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / f"made-{KEY[:16]}.npy").mkdir()
    with pytest.raises(BackboneError, match="cannot write features"):
        cache.cached(tmp_path, "made", KEY, 4, Counted())
    assert len(list(tmp_path.iterdir())) == 1


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write", full)
    with pytest.raises(BackboneError, match="No space left on device"):
        cache.cached(tmp_path, "made", KEY, 4, Counted())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [RIGHT[:3], np.full((4, 3), np.nan, dtype=np.float32)])
def test_wrong_features_are_not_stored(tmp_path: Path, wrong: cache.Features) -> None:
    with pytest.raises(BackboneError, match="expected finite numbers in 4 rows"):
        cache.cached(tmp_path, "made", KEY, 4, Counted(wrong))
    assert list(tmp_path.iterdir()) == []


def test_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path / "variable"))
    assert cache.folder("configured") == Path("configured/features")
    assert cache.folder("") == tmp_path / "variable" / "features"
    monkeypatch.delenv("FEDMETA_CACHE")
    assert cache.folder("") == Path.home() / ".cache" / "fedmeta" / "features"
