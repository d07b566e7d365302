"""Checkpoints: the same again, the old one or the new one after any fault, and no damage unseen."""

import errno
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedmeta.config import Scalar
from fedmeta.outer import ServerState
from strategies import checkpoint
from strategies.checkpoint import CheckpointError, Progress
from strategies.events import RoundDone
from strategies.trust import Trust
from tests.forked import killed_at

SETTINGS: dict[str, Scalar] = {"method.name": "maml", "run.seed": 3}


def progress(number: int) -> Progress:
    """What a run might hold after a round."""
    random_ = torch.Generator().manual_seed(number)
    meta = {n: torch.randn(4, 3, generator=random_) for n in ("hidden.weight", "rate/alpha")}
    best = {n: torch.randn(4, 3, generator=random_) for n in meta}
    outer = {
        "hidden.weight": tuple(torch.randn(4, 3, generator=random_).double() for _ in range(2)),
        "rate/alpha": (),
    }
    history = [RoundDone(r, 9, 50, r % 2, 0.1 * r, None if r % 2 else 0.5) for r in range(1, 4)]
    privacy = {"below": torch.randn(2, generator=random_)}
    trust = Trust((0.5, 1.5 * number), {3: 1}, {7: number + 2}, (2.5, 0.25))
    state = ServerState(number, meta, outer, privacy)
    return Progress(state, (0.1 + number, number, best), history, trust)


def same(a: Progress | None, b: Progress) -> bool:
    if a is None or a.history != b.history or a.best[:2] != b.best[:2] or a.trust != b.trust:
        return False
    pairs = [
        (a.state.meta, b.state.meta),
        (a.best[2], b.best[2]),
        (a.state.privacy, b.state.privacy),
    ]
    return (
        a.state.round == b.state.round
        and all(x.keys() == y.keys() and all(torch.equal(x[n], y[n]) for n in x) for x, y in pairs)
        and a.state.outer.keys() == b.state.outer.keys()
        and all(
            len(a.state.outer[n]) == len(b.state.outer[n])
            and all(map(torch.equal, a.state.outer[n], b.state.outer[n]))
            for n in b.state.outer
        )
    )


def test_the_same_again_and_the_last_two_are_kept(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path / "nothing", SETTINGS) is None
    for number in (1, 2, 9, 10):
        checkpoint.write(tmp_path, progress(number), SETTINGS)
    assert sorted(checkpoint.rounds(tmp_path)) == [9, 10]
    assert same(checkpoint.read(tmp_path, SETTINGS), progress(10))
    checkpoint.write(tmp_path, progress(10), SETTINGS)  # a round that is run again
    assert same(checkpoint.read(tmp_path, SETTINGS), progress(10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "9"]


def test_before_the_first_evaluation_there_is_no_best_value(tmp_path: Path) -> None:
    state = progress(1).state
    checkpoint.write(tmp_path, Progress(state, (-float("inf"), 0, state.meta), []), SETTINGS)
    found = checkpoint.read(tmp_path, SETTINGS)
    assert found is not None
    assert found.best[:2] == (-float("inf"), 0)


def test_other_settings_are_refused_and_shown(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, progress(1), SETTINGS)
    with pytest.raises(CheckpointError, match=r"method.name = 'fomaml' \(was 'maml'\)"):
        checkpoint.read(tmp_path, SETTINGS | {"method.name": "fomaml"})


def test_a_future_format_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, progress(1), SETTINGS)
    path = tmp_path / "1" / "manifest.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"format": 99})))
    with pytest.raises(CheckpointError, match=r"format 99, and .* reads format \d+ alone"):
        checkpoint.read(tmp_path, SETTINGS)


class Hostile:
    """A pickle of it makes a folder where it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("part", ["manifest.json", "state.safetensors"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, part: str) -> None:
    """A file of PyTorch's that runs what its author likes, under a manifest that fits it."""
    checkpoint.write(tmp_path, progress(1), SETTINGS)
    torch.save(Hostile(tmp_path / "ran"), tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()
    (tmp_path / "1" / part).write_bytes(evil)
    if part == "state.safetensors":
        manifest = tmp_path / "1" / "manifest.json"
        body = json.loads(manifest.read_text())
        body["state"] = {"sha256": hashlib.sha256(evil).hexdigest(), "bytes": len(evil)}
        manifest.write_text(json.dumps(sealed(body)))
    with pytest.raises(CheckpointError, match=part):
        checkpoint.read(tmp_path, SETTINGS)
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "where it is read by pickle it does run"


def sealed(body: dict[str, object]) -> dict[str, object]:
    """A manifest with the sha256 that it should have."""
    rest = {key: value for key, value in body.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return rest | {"sha256": digest}


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One bit flipped, the end cut, bytes added, or something else altogether."""
    kind = draw.randrange(4)
    if kind == 0:
        at = draw.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[: draw.randrange(len(content))]
    if kind == 2:
        return content + draw.randbytes(draw.randrange(1, 40))
    return draw.choice([b"", b"{}", b"[]", b"null", b"\x80\x04K\x01.", draw.randbytes(64)])


@pytest.mark.parametrize(
    "mutations", [100, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_every_mutation_is_detected(tmp_path: Path, mutations: int) -> None:
    draw = random.Random(7)
    good = tmp_path / "good"
    checkpoint.write(good, progress(4), SETTINGS)
    checkpoint.write(good, progress(5), SETTINGS)
    for number in range(mutations):
        bad = tmp_path / "bad"
        shutil.copytree(good, bad)
        path = bad / "5" / draw.choice(["manifest.json", "state.safetensors"])
        before = path.read_bytes()
        path.write_bytes(mutate(before, draw))
        if path.name == "manifest.json" and _says_the_same(before, path.read_bytes()):
            expected = progress(5)  # white space at the end: nothing was damaged
        else:
            expected = progress(4)
        assert same(checkpoint.read(bad, SETTINGS), expected), number
        shutil.rmtree(bad / "4")
        if expected.state.round == 4:
            with pytest.raises(CheckpointError, match="start the run anew"):
                checkpoint.read(bad, SETTINGS)
        shutil.rmtree(bad)


@pytest.mark.parametrize(
    "change",
    [{"format": None}, {"settings": None}, {"state": None}, {"state": {}}, {"settings": 1}],
)
def test_foreign_manifests_with_a_seal(tmp_path: Path, change: dict[str, object]) -> None:
    """What a checkpoint should have is not there, or another thing, under a sha256 that fits."""
    checkpoint.write(tmp_path, progress(4), SETTINGS)
    (tmp_path / "\u00b2").mkdir()  # a digit, and no number
    assert checkpoint.rounds(tmp_path) == [4]
    path = tmp_path / "4" / "manifest.json"
    body = json.loads(path.read_bytes()) | change
    path.write_text(json.dumps(sealed({k: v for k, v in body.items() if v is not None})))
    with pytest.raises(CheckpointError):
        checkpoint.read(tmp_path, SETTINGS)


def _says_the_same(a: bytes, b: bytes) -> bool:
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename", "open"])
@pytest.mark.parametrize("after", range(4))
def test_faults_leave_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, call: str, after: int
) -> None:
    checkpoint.write(tmp_path, progress(1), SETTINGS)
    left = after

    def faulty(real: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(error, os.strerror(error))
            return real(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", faulty(os.fsync))
        else:
            patch.setattr(Path, call, faulty(getattr(Path, call)))
        said = ""
        try:
            checkpoint.write(tmp_path, progress(2), SETTINGS)
        except CheckpointError as refused:
            said = str(refused)
    assert not said or (os.strerror(error) in said and "--resume" in said)
    found = checkpoint.read(tmp_path, SETTINGS)
    assert found is not None
    assert same(found, progress(found.state.round))
    assert said or found.state.round == 2
    assert not list(tmp_path.glob(".*"))


def _writes(folder: Path, number: int, most: int) -> int:
    """Write a checkpoint in a process that is gone at its ``most``-th call; calls it came to."""
    what = progress(number)
    return killed_at(most, lambda: checkpoint.write(folder, what, SETTINGS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads
@pytest.mark.parametrize(
    "points", [20, pytest.param(100, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_kill_at_any_point_leaves_the_old_or_the_new_one(tmp_path: Path, points: int) -> None:
    """The process is gone between two calls of the writer, and the next one goes on."""
    checkpoint.write(tmp_path, progress(1), SETTINGS)
    calls, last, found = _writes(tmp_path, 2, 10**9), 2, set()
    for point in range(points):
        _writes(tmp_path, last + 1, point * calls // (points - 1))
        read = checkpoint.read(tmp_path, SETTINGS)
        assert read is not None
        assert same(read, progress(read.state.round)), point
        assert read.state.round in (last, last + 1), point
        found.add(read.state.round - last)
        last = read.state.round
    assert found == {0, 1}, "some are killed before the rename and some after it"
