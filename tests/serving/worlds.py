"""Folders of runs, made without training, and users who come to them with files of their own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import artifacts
from experiments.serving import needs
from experiments.serving.opened import Opened, open_run
from fedmeta import cohort, generation, loop, seeding
from fedmeta.cohort import Trial
from fedmeta.head_file import weights_sha256
from fedmeta.methods import METHODS
from fedmeta.problem import Problem, initial
from fedmeta.unseen import judged_rows, judging
from tests.engine.cases import problem


class World(NamedTuple):
    """A run and one of its test users.

    Attributes:
        opened: the run.
        problem: what it was.
        file: the user's support, as a table, in the order in which he is judged.
        user: his id.
        items: texts or rows on which he is judged, in order.
        logits: what evaluation finds, ``(C, Q)``.
    """

    opened: Opened
    problem: Problem
    file: Path
    user: str
    items: Any
    logits: Tensor


def folder_of(found: Problem, folder: Path) -> Opened:
    """The folder of a run that drew its parameters instead of learning them."""
    random = torch.Generator().manual_seed(7)
    drawn = {
        name: value + 0.3 * torch.randn(value.shape, generator=random).to(value)
        for name, value in initial(found).items()
    }
    theta = generation.public(found.method, drawn)
    folder.mkdir()
    artifacts.write_config(folder, found.config)
    artifacts.write_model(folder, theta)
    needs.write(folder, needs.needs_of(found))
    adapt = {"rate": 0.7 * found.adapt.rate, "steps": found.adapt.steps + 1}
    artifacts.write_json(
        folder / "summary.json", {"adapt": adapt, "model_sha256": weights_sha256(theta)}
    )
    return open_run(folder)


def world(folder: Path, at: int = 0, **values: Any) -> World:
    """A world of a config; ``at`` says which of the test users comes."""
    found = problem(**values)
    opened = folder_of(found, folder)
    user = found.population.store.users("test")[at : at + 1]
    return come(opened, found, user, folder / "mine.csv")


def come(opened: Opened, found: Problem, user: np.ndarray[Any, Any], file: Path) -> World:
    """A judged user of a run with his support as a file, and what evaluation finds for him."""
    store, config = found.population.store, found.config
    stream = seeding.key(config.run.seed, "support")
    rows = judged_rows(found.population, user, stream, config.data.support)
    mine, asked = rows.support[0, : rows.given[0]], rows.query[0, : rows.asked[0]]
    table: dict[str, Any] = {"user": store.ids[user[0]]}
    texts = isinstance(store.items, tuple)
    if texts:
        table["text"] = [store.items[i] for i in store.item[mine]]
    else:
        x = np.asarray(store.items)[store.item[mine]]
        table |= {f"x{column}": x[:, column] for column in range(x.shape[1])}
    names = np.array(store.classes) if store.classes else None
    table["label"] = store.label[mine] if names is None else names[store.label[mine].astype(int)]
    if store.domain is not None:
        table["domain"] = [store.domains[d] for d in store.domain[mine]]
    pd.DataFrame(table).to_csv(file, index=False)
    items = (
        [store.items[i] for i in store.item[asked]]
        if texts
        else np.asarray(store.items)[store.item[asked]]
    )
    with torch.no_grad():
        task = judging(found.population, user, stream, config.data.support)
        facts = loop.facts_of(found, user, judged=True)
        chosen = json.loads((opened.folder / "summary.json").read_text())["adapt"]
        inner = replace(found.adapt, rate=chosen["rate"], steps=chosen["steps"])
        trial = Trial(inner, config.data.support)
        args = (found.method, found.model, opened.theta, task, [trial], facts)
        logits = cohort.predict(*args)[0][0]
    return World(opened, found, file, store.ids[user[0]], items, logits)


def able(name: str) -> dict[str, Any]:
    """Settings with which a method works on generated users."""
    head = METHODS[name].head
    return {"method__name": name, "head__name": head or "mlp"}
