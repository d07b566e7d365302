"""Runs with whole models and with encoders that are more than one vector, through the command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.backbones.conftest import save_bert
from tests.data.rows import write
from tests.experiments.runs import Result, sets

Call = Callable[..., Result]
SHORT = {"federation__rounds": 1, "federation__users_per_round": 3, "federation__chunk": 2}


def images(folder: Path) -> Path:
    random = np.random.default_rng(0)
    label = np.tile(np.arange(2), 90)
    x = 0.5 * random.random((180, 16, 16)) + 0.5 * (label[:, None, None] == 1)
    path = folder / "images.npz"
    np.savez(path, images=x.astype(np.float32), y=label, user=np.repeat(np.arange(15), 12))
    return path


def plays(folder: Path) -> Path:
    text = "to be or not to be, that is the question "
    rows = [{"user": f"u{u:02d}", "text": text[u % 5 :] * 2, "act": 3} for u in range(15)]
    return write(folder / "plays.jsonl", rows)


@pytest.mark.parametrize(
    ("head", "method", "given"),
    [
        ("conv4", "maml", {"head__filters": 4, "data__standardize": "none"}),
        ("conv4", "protonet", {"head__filters": 4, "head__adapt": "auto"}),
        ("gru", "reptile", {"head__hidden": 6, "head__adapt": "all", "data__window": 6}),
        ("gru", "maml", {"head__hidden": 6, "head__adapt": "head", "data__window": 6}),
        ("ph-transformer", "maml", {"head__width": 8, "head__attention_heads": 2}),
        ("lora", "reptile", {}),
        ("prompt", "fomaml", {"head__adapt": "output.*"}),
    ],
)
def test_runs(head: str, method: str, given: dict[str, object], fedmeta: Call) -> None:
    here = Path.cwd()
    if head == "conv4":
        source = {"data__source": images(here), "backbone__name": "auto", "data__support": 4}
    elif head == "gru":
        source = {"data__source": plays(here), "backbone__name": "auto", "data__support": 4}
        source |= {"data__stride": 5}
    else:
        bert = save_bert(here / "bert", layers=1)
        source = {"backbone__name": bert, "backbone__max_length": 8, "backbone__cache": here}
        source |= {"data__users": 12, "data__messages": 40, "data__support": 4}
        source |= {"data__query": 4, "data__examples": 12}
    values = {**SHORT, **source, "head__name": head, "method__name": method, "method__steps": 2}
    pairs = sets(**values, **given)
    results = [fedmeta("simulate", "--json", "--out", f"run{n}", *pairs) for n in (1, 2)]
    found = [result.json for result in results]
    assert found[0]["weights_sha256"] == found[1]["weights_sha256"]
    assert 0 <= found[0]["test"]["after"]["accuracy_macro"] <= 1


def test_the_list_of_heads(fedmeta: Call) -> None:
    rows = {row["name"]: row for row in fedmeta("list", "heads", "--json").json}
    wanted = "linear mlp proto ridge ph-transformer mmoe scale-shift lora prompt conv4"
    assert list(rows)[:10] == wanted.split()
    assert rows["proto"]["methods"] == "protonet, protomaml, protomamln"
    assert rows["lora"]["what"].startswith("Slow class: ")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"head__name": "conv4"}, "is a whole model of images"),
        ({"head__name": "lora"}, "adapts a text encoder, and there is none here"),
        ({"head__name": "proto"}, "use method.name = 'protonet'"),
        ({"head__adapt": "conv9.*"}, "fits no parameter of head.name = 'mlp'"),
    ],
)
def test_what_does_not_fit_is_said_before_the_run(
    given: dict[str, object], reason: str, fedmeta: Call
) -> None:
    result = fedmeta("simulate", *sets(**given))
    assert (result.code, result.out) == (2, "")
    assert reason in result.err
    assert "Traceback" not in result.err
    assert not Path("runs").exists()


def test_images_of_another_size(fedmeta: Call) -> None:
    path = images(Path.cwd())
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {"images": arrays["images"][:, :8, :8]}))
    source = {"data__source": path, "backbone__name": "auto", "data__support": 4}
    result = fedmeta("simulate", *sets(**source, head__name="conv4"))
    assert result.code == 2
    assert "square images of 16 x 16 pixels or more" in result.err
    assert "an example has 64 numbers" in result.err
