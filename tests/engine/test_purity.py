"""Mistakes that are seen in the source or in the state of the process."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import clients
import experiments
import fedmeta
import strategies
from fedmeta import loop
from fedmeta.types import Params
from tests.engine.cases import distance, problem

PACKAGES = (fedmeta, clients, strategies, experiments)
FILES = [
    path
    for package in PACKAGES
    for folder in package.__path__
    for path in Path(folder).rglob("*.py")
]
RUNS_CODE = ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
"""Modules whose files run what their author wrote into them."""
GLOBAL_RANDOM = {"seed", "manual_seed", "rand", "randn", "randint", "shuffle", "choice", "sample"}


def mistakes(source: str) -> list[str]:
    """Validation by assert, a bare except, draws from a global generator, files that are code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert is gone under -O")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"line {node.lineno}: bare except")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = ast.unparse(node.func.value), node.func.attr
            if owner in ("random", "np.random") and name in GLOBAL_RANDOM:
                found.append(f"line {node.lineno}: {owner}.{name} is a global generator")
            if owner == "torch" and name in GLOBAL_RANDOM and "generator=" not in ast.unparse(node):
                found.append(f"line {node.lineno}: {owner}.{name} without a generator")
        found += [f"line {getattr(node, 'lineno', 0)}: {what}" for what in code_from_files(node)]
    return found


def code_from_files(node: ast.AST) -> list[str]:
    """What a damaged or hostile file could use to be run: no pickle, no eval, no plain yaml."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        return [f"{n} runs code of files" for n in names if n.split(".")[0] in RUNS_CODE]
    if not isinstance(node, ast.Call):
        return []
    name, text = ast.unparse(node.func), ast.unparse(node)
    if name in ("eval", "exec", "__import__", "torch.load", "yaml.load", "yaml.unsafe_load"):
        return [f"{name} runs code of files"]
    # `open_memmap` refuses objects; of `np.load` it is the default to refuse them too.
    return [f"{name} with pickle"] if "allow_pickle=" in text and "=False" not in text else []


@pytest.mark.parametrize(
    "line",
    [
        "assert rate > 0",
        "try:\n    run()\nexcept:\n    pass",
        "random.sample(users, 3)",
        "np.random.shuffle(users)",
        "torch.randn(3)",
        "torch.manual_seed(0)",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "eval(text)",
        "yaml.load(text)",
    ],
)
def test_planted_mistakes_are_found(line: str) -> None:
    assert len(mistakes(line)) == 1


def test_source() -> None:
    assert len(FILES) > 50
    found = {path.name: mistakes(path.read_text(encoding="utf-8")) for path in FILES}
    assert not {name: lines for name, lines in found.items() if lines}


def run(seed: int) -> Params:
    """A whole run after the global generators were seeded."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    *_, state = loop.train(problem(head__name="mlp"))
    return state.meta


def test_global_generators_neither_matter_nor_move() -> None:
    assert distance(run(0), run(1)) == 0.0
    torch.manual_seed(5)
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    list(loop.train(problem(head__name="mlp")))
    assert random.getstate() == before[0]
    assert str(np.random.get_state()) == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_seed_matters() -> None:
    *_, a = loop.train(problem(head__name="mlp"))
    *_, b = loop.train(problem(head__name="mlp", run__seed=1))
    assert distance(b.meta, a.meta) > 0.1
