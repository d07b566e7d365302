"""What the documentation shows is run, page by page, with its sizes cut where it takes long."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch

from experiments.cli import main
from fedmeta.methods import METHODS
from tests.data.rows import text_rows, write
from tests.docs.blocks import PAGES, ROOT, Block, blocks, lines, words
from tests.docs.commands import PLACEHOLDER, parsed
from tests.serving.test_server import service

LONG = {
    "deploy": "starts servers; tests/docs/test_deployment_page.py",
    "deploy demo": "starts servers; tests/deploy/test_commands.py",
    "bench engine": "measures for minutes; tests/bench/test_engine.py",
    "reproduce": "real data, hours; tests/experiments/test_reproduce.py",
    "sweep": "minutes; tests/experiments/test_sweep.py",
}
"""Commands that are parsed only, each with the reason and what runs it instead."""

RUN = (
    "attack", "audit", "compare", "epsilon", "export", "frontier", "inspect", "list",
    "personalize", "predict", "report", "serve", "simulate",
)  # fmt: skip

SMALL = (
    "federation.rounds=2", "federation.users-per-round=10", "evaluation.bootstrap=100",
    "evaluation.tune=false", "data.users=60", "data.messages=300",
)  # fmt: skip
"""Put behind what trains, so that it takes a second."""

CONFIG = "experiments/configs/frontier.toml"
"""What CONFIG stands for; DIR stands for the run that the page made last."""

REAL = {"banking77.jsonl.gz", "omniglot28.npz"}
"""Data that are in no checkout: commands that name them are run where they are."""

LONGER = (
    "attacks", "devices", "frontier", "notebooks", "privacy", "report", "serving", "tasks",
    "tracking",
)  # fmt: skip
"""Pages whose commands take more than a few seconds: run with the slow tests, parsed in all."""

SLOW = (pytest.mark.slow, pytest.mark.timeout(1200))  # dozens of runs: a busy machine takes long
SHOWN = [page for page in PAGES if blocks(page)]


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new folder with a table and the shipped configs in it, one thread, no trace left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(Path("my.csv"), text_rows(40, 12))
    Path("my.toml").write_text("data.source = 'my.csv'\nbackbone.name = 'hashing'\n", "utf-8")
    Path("mine.csv").write_text("text,label\nThanks a lot!,1\nStop it.,0\n", "utf-8")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for file in (ROOT.parent / "shared" / "data").glob("*.*"):
        (tmp_path / file.name).symlink_to(file)
    threads, methods = torch.get_num_threads(), dict(METHODS)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    METHODS.clear()
    METHODS.update(methods)


def _cut(given: list[str], path: str) -> list[str]:
    """The words of a command, with its sizes cut."""
    if path == "audit":
        return [*given, "--canaries", "50", "--parts", "canaries,inversion"]
    if path not in ("simulate", "compare", "attack", "frontier"):
        return given
    small = list(SMALL)
    source = next((word.split("=")[1] for word in given if word.startswith("data.source=")), "")
    config = next((word for word in given if word.endswith(".toml")), "")
    if source in ("", "my.csv") and not config and "--resume" not in given:
        small.append("backbone.name=hashing")
    given = [*given, *(part for text in small for part in ("--set", text))]
    if path == "frontier":
        given = [*given, "--canaries", "0", "--epsilons", "2", "--seeds", "1"]
    at_once = path == "attack" or "--backend" in given  # an attack knows no other way
    return given if at_once else [*given, "--backend", "inline"]


def _command(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [_meant(word) for word in words(text)]
    path, _ = parsed(given)
    if path not in RUN or PLACEHOLDER.search(" ".join(given)) or not _there(given):
        return
    if path == "serve":
        with service(*given[2:]) as (_, asking):
            assert asking.get("/healthz").json()["method"]
        return
    monkeypatch.setattr(sys, "argv", _cut(given, path))
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    assert not code, text


def _meant(word: str) -> str:
    """A word as a shell and a reader take it."""
    if word == "DIR":
        return str(max(Path("runs").iterdir(), key=lambda run: run.stat().st_mtime))
    return os.path.expanduser({"CONFIG": CONFIG}.get(word, word))


def _there(given: list[str]) -> bool:
    """Whether the real data that a command names are there; no other file may be missing."""
    named = {word.split("=")[-1] for word in given[1:]}
    return all(Path(name).exists() for name in named & REAL)


def _run(block: Block, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if block.language == "python":
        code = "\n" * block.line + block.text  # so that a traceback names the line of the page
        compiled = compile(code, block.page, "exec")
        if not block.reason:
            exec(compiled, names)
        return
    for text in lines(block):
        if text.startswith("fedmeta ") and not block.reason:
            _command(text, monkeypatch)
        elif not block.reason:
            subprocess.run(["bash", "-euc", text], check=True, timeout=60)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=SLOW if page.stem in LONGER else ()) for page in SHOWN],
    ids=lambda page: page.stem,
)
def test_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        _run(block, names, monkeypatch)


def test_every_command_is_run_or_has_a_reason() -> None:
    for page in SHOWN:
        for block in blocks(page):
            for text in lines(block):
                if text.startswith("fedmeta ") and not block.reason:
                    path, _ = parsed(words(text))
                    assert path in RUN or {path, path.split()[0]} & set(LONG), (page.name, text)


def test_what_is_run_elsewhere_is_there() -> None:
    for path, reason in LONG.items():
        where = ROOT / reason.rpartition("; ")[2]
        assert f'"{path.split()[-1]}"' in where.read_text(encoding="utf-8"), path


def test_a_block_that_fails_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Block("page", 3, "python", "x = 1\nassert x == 2\n", "")
    with pytest.raises(AssertionError):
        _run(bad, {}, monkeypatch)
    refused = Block("page", 3, "bash", "fedmeta simulate --set data.source=my.csv --seed 1\n", "")
    monkeypatch.setattr("tests.docs.test_run.SMALL", (*SMALL, "method.name=none"))
    with pytest.raises(AssertionError, match=r"my\.csv"):
        _run(refused, {}, monkeypatch)
