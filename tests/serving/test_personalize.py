"""A head made from a user's file says what evaluation found for that user."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.serving import heads, personal
from experiments.serving.heads import Head
from experiments.serving.opened import open_run
from fedmeta.methods import METHODS
from fedmeta.problem import build
from tests.experiments.runs import Result, sets, users_of
from tests.serving.worlds import World, able, come, world

Command = Callable[..., Result]


def predicted(seen: World, head: Head, items: Any) -> list[dict[str, Any]]:
    return personal.predict(seen.opened, personal.backbone_of(seen.opened), head, items)


def found_by(seen: World, out: Path) -> torch.Tensor:
    """Logits ``(C, Q)`` by way of a file."""
    personal.personalize(seen.opened, seen.file, out, None)
    said = predicted(seen, heads.read(out, seen.opened), seen.items)
    return torch.tensor([one["logits"] for one in said]).T


@pytest.mark.parametrize("name", METHODS)
def test_every_method(name: str, tmp_path: Path) -> None:
    seen = world(tmp_path / "run", **able(name))
    found = found_by(seen, tmp_path / "head.safetensors")
    assert seen.logits.std() > 0.01
    torch.testing.assert_close(found, seen.logits, rtol=1e-6, atol=1e-6)


def test_command_gives_the_judged_users_score(fedmeta: Command) -> None:
    """Of a trained run: as many right answers as `users.parquet` has for the user."""
    fedmeta("simulate", *sets(evaluation__tune=True), "--out", "run")
    opened = open_run(Path("run"))
    problem = build(opened.config)
    store, scores = problem.population.store, users_of(Path("run"), "test", 20)
    for at in store.users("test")[:3]:
        seen = come(opened, problem, np.array([at]), Path("mine.csv"))
        told = fedmeta(
            "personalize", "run", "--data", "mine.csv", "--out", "heads/me.safetensors", "--json"
        ).json
        assert told["examples"] == 20
        Path("asked.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in seen.items))
        said = fedmeta(
            "predict", "run", "--head", told["head"], "--data", "asked.jsonl", "--json"
        ).json
        logits = torch.tensor([one["logits"] for one in said]).T
        torch.testing.assert_close(logits, seen.logits, rtol=1e-6, atol=1e-6)
        rows = store.label[store.offsets[at] : store.offsets[at + 1]]
        texts = [store.items[i] for i in store.item[store.offsets[at] : store.offsets[at + 1]]]
        truth = dict(zip(texts, rows.astype(int).tolist(), strict=True))
        answered = zip(said, seen.items, strict=True)
        right = [one["label"] == store.classes[truth[text]] for one, text in answered]
        assert np.mean(right) == pytest.approx(scores.loc[seen.user, "accuracy"], abs=1e-12)
        for one in said:
            assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-12)


def table_of(rows: list[dict[str, Any]], path: Path) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_numbers_and_targets(tmp_path: Path) -> None:
    """Features are scaled and targets unscaled as in the run, which nobody has the data of."""
    random = np.random.default_rng(5)
    rows = [
        {"user": f"u{u:02d}", "x0": a, "x1": 100 + 7 * b, "x2": c, "label": 30 + u + 4 * a + b}
        for u in range(20)
        for a, b, c in random.normal(size=(12, 3)).tolist()
    ]
    data = table_of(rows, tmp_path / "data.csv")
    seen = world(
        tmp_path / "run",
        data__source=str(data),
        backbone__name="auto",
        method__name="reptile",
        data__standardize="features",
    )
    data.unlink()
    out = tmp_path / "head.safetensors"
    personal.personalize(seen.opened, seen.file, out, None)
    said = predicted(seen, heads.read(out, seen.opened), seen.items)
    store = seen.problem.population.store
    labels = store.label[np.repeat(store.split == 0, store.sizes())]
    expected = labels.mean() + labels.std() * seen.logits[0].double().numpy()
    np.testing.assert_allclose([one["value"] for one in said], expected, rtol=1e-6)


def test_own_classes(tmp_path: Path) -> None:
    """Where each user has classes of his own, a head says his names, as many as he has."""
    rows = [
        {"user": "x", "a": c + 0.1 * i, "b": (-1.0) ** c * i, "label": f"class {c:02d}"}
        for c in range(30)
        for i in range(8)
    ]
    data = table_of(rows, tmp_path / "data.csv")
    seen = world(
        tmp_path / "run",
        data__source=str(data),
        data__tasks="episodic",
        data__way=3,
        data__support=6,
        evaluation__shots="6",
        backbone__name="auto",
        **able("protomaml"),
    )
    two = [{"a": float(i % 2), "b": float(i), "label": ("yes", "no")[i % 2]} for i in range(6)]
    out = tmp_path / "head.safetensors"
    personal.personalize(seen.opened, table_of(two, tmp_path / "two.csv"), out, None)
    head = heads.read(out, seen.opened)
    [said] = predicted(seen, head, np.zeros((1, 2), np.float32))
    assert head.classes == ("no", "yes")
    assert set(said["probabilities"]) == {"no", "yes"}
    four = [{**row, "label": str(number % 4)} for number, row in enumerate(two)]
    with pytest.raises(ValueError, match="4 classes, and the run's model tells 3 apart"):
        personal.personalize(seen.opened, table_of(four, tmp_path / "four.csv"), out, None)


def test_longer_and_shorter_memories_share_a_product(tmp_path: Path) -> None:
    """Users with different numbers of examples are padded together, and none notices."""
    seen = world(tmp_path / "run", **able("knn-per"))
    table = pd.read_csv(seen.file)
    made = []
    for count in (2, 3, 4):
        file = tmp_path / f"{count}.csv"
        table.iloc[:count].to_csv(file, index=False)
        out = tmp_path / f"{count}.safetensors"
        personal.personalize(seen.opened, file, out, None)
        made.append(heads.read(out, seen.opened))
    x = torch.randn(5, seen.opened.needs.width, generator=torch.Generator().manual_seed(0))
    together = personal.answers(seen.opened, made, [x[:3], x, x[:2]])
    for head, rows, logits in zip(made, (x[:3], x, x[:2]), together, strict=True):
        [alone] = personal.answers(seen.opened, [head], [rows])
        torch.testing.assert_close(logits, alone, rtol=1e-6, atol=1e-6)
