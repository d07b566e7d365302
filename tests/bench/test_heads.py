"""The benches of heads and of whole models, at the smallest size that says something."""

from pathlib import Path

import pytest
import torch

from experiments.bench import encoders, features, heads, personal_heads, whole
from fedmeta.config import Config, ConfigError
from fedmeta.heads import HEADS
from tests.engine.cases import problem
from tests.engine.whole import folder


def test_a_whole_model_against_a_plain_loop() -> None:
    """The figures are of the same work: the difference says so, and would not if it were not."""
    before = torch.get_num_threads()
    found = whole.row(tasks=2, turns=1, shot=1, asked=1)
    assert found["max_rel_err"] < 1e-4
    assert found["finite"]
    assert found["ratio_to_loop"] > 0
    task = whole.chunk(2, 1, 1)
    theta = whole.made().head.init(torch.Generator().manual_seed(0))
    other = whole.contribution(theta, whole.one(task, 1))
    assert whole._difference(other, whole.contribution(theta, whole.one(task, 0))) > 1e-2
    assert torch.get_num_threads() == before


def test_what_heads_cost() -> None:
    found = {row["head"]: row for row in heads.rows("linear,proto,ridge,mmoe,lora", folder(), 1)}
    assert found["linear"]["parameters"] == 384 * 10 + 10
    assert found["linear"]["bytes_a_round"] == 2 * 4 * (384 * 10 + 10)
    hidden = 64 * 384 + 64
    assert found["proto"]["bytes_a_round"] == 2 * 4 * hidden  # the output layer stays where it is
    assert found["proto"]["method"] == "protonet"
    assert found["ridge"]["method"] == "ridge"
    assert found["mmoe"]["method"] == "mmoe"
    assert found["lora"]["class"] == heads.SLOW
    assert all(row["s_per_user"] > 0 for row in found.values())


def test_every_head_has_a_way_to_be_measured() -> None:
    for name in HEADS:
        assert heads.method_of(name).contribute is not None
        if name not in ("lora", "prompt", "encoder"):
            x = heads.users(name, 1).support.x
            head = heads.made(name)
            theta = head.init(torch.Generator())
            assert head.logits(theta, x[0]).shape == (heads.CLASSES, heads.SUPPORT)


def small(name: str, tmp_path: Path) -> Config:
    run = problem(method__name="protonet-frozen")
    cache = str(tmp_path / "cache")
    backbone = run.config.backbone.model_copy(
        update={"name": name, "max_length": 16, "cache": cache}
    )
    return run.config.model_copy(update={"backbone": backbone})


def test_encoders_of_several_sizes(tmp_path: Path) -> None:
    from tests.backbones.conftest import save_bert

    bert = save_bert(tmp_path / "bert", layers=2)
    found = list(encoders.rows(small(str(bert), tmp_path), "1,0", tmp_path / "runs"))
    assert [row["layers"] for row in found] == [1, "all"]
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32
    assert found[1]["parameters"] - found[0]["parameters"] == layer
    assert found[0]["after"] != found[1]["after"]
    assert all(0 <= row["after"] <= 1 and row["s_per_1000_texts"] > 0 for row in found)
    with pytest.raises(ConfigError, match=r"is no transformer over texts"):
        list(encoders.rows(small("hashing", tmp_path), "1", tmp_path / "more"))
    with pytest.raises(ConfigError, match=r"--layers 'a': expected numbers"):
        list(encoders.rows(small(str(bert), tmp_path), "a", tmp_path / "more"))


def test_features_beside_a_bare_loop(tmp_path: Path) -> None:
    from tests.backbones.conftest import save_bert

    bert = save_bert(tmp_path / "bert", layers=1)
    found = features.row(small(str(bert), tmp_path), 20, 1)
    assert found["texts"] == 20
    assert found["max_difference"] < 1e-5
    assert found["ratio_to_loop"] > 0
    with pytest.raises(ConfigError, match=r"is no transformer over texts"):
        features.row(small("hashing", tmp_path), 20, 1)


def test_a_head_for_each_user_and_a_model_for_each_user(tmp_path: Path) -> None:
    """Parameters and storage by hand: of a head, and of all of a copy."""
    from tests.backbones.conftest import save_bert

    bert = save_bert(tmp_path / "bert", layers=1)
    config = small(str(bert), tmp_path)
    method = config.method.model_copy(update={"name": "local", "steps": 2})
    config = config.model_copy(update={"method": method})
    rows = {row.name: row for row in personal_heads.ROWS}
    wanted = ("frozen prototypes", "linear", "full fine-tuning")
    found = [personal_heads.measured(config, rows[name], 10) for name in wanted]
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32
    body = layer + 32 * (18 + 40 + 2) + 2 * 32
    pooler = 32 * 32 + 32  # is in the file, and in no head
    assert [one["parameters"] for one in found] == [2 * 32, 2 * 33, body + 2 * 33]
    storage = [10 * 2 * 32 + body + pooler, 10 * 2 * 33 + body + pooler, 10 * (body + 2 * 33)]
    assert [one["storage_mb"] * 1e6 for one in found] == pytest.approx([4 * n for n in storage])
    assert all(0 <= one["macro_f1"] <= 100 and one["s_per_user"] > 0 for one in found)
    with pytest.raises(ConfigError, match=r"needs texts with classes"):
        personal_heads.measured(small("hashing", tmp_path), rows["linear"], 10)
