"""Files of heads: whole or as they were, and refused by name where they do not belong."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from experiments.serving import heads
from experiments.serving.heads import Head, HeadError
from experiments.serving.opened import open_run
from fedmeta import head_file
from fedmeta.head_file import weights_sha256
from tests.engine.cases import problem
from tests.experiments.runs import Result
from tests.serving.worlds import World, able, folder_of, world

Command = Callable[..., Result]
Change = Callable[[dict[str, str], dict[str, Tensor]], object]


def parts(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_tells_whose_it_is_without_naming_him(maml: World, ann: Path) -> None:
    told, tensors = parts(ann)
    assert told["user_sha256"] == head_file.hash_of(maml.user)
    assert maml.user not in json.dumps(told)
    assert told["backbone_sha256"] == maml.opened.needs.backbone_sha256
    assert told["run_sha256"] == maml.opened.sha256
    assert json.loads(told["classes"]) == list(maml.opened.needs.classes)
    assert told["sha256"] == weights_sha256(tensors)


CHANGES: Mapping[str, tuple[str, Change]] = {
    "backbone": ("other_backbone", lambda told, _: told.update(backbone_sha256="0" * 64)),
    "run": ("other_model", lambda told, _: told.update(run_sha256="0" * 64)),
    "method": ("other_model", lambda told, _: told.update(method="reptile")),
    "version": ("other_version", lambda told, _: told.update(format="fedmeta-head/99")),
    "no head": ("no_head", lambda told, _: told.clear()),
    "shape": ("other_shape", lambda _, p: p.update({"output.bias": torch.zeros(7)})),
    "missing": ("other_shape", lambda _, p: p.pop("output.bias")),
    "more": ("other_shape", lambda _, p: p.update({"x/y": torch.zeros(7)})),
    "digest": ("damaged", lambda _, p: p["output.bias"].add_(1)),
    "classes": ("damaged", lambda told, _: told.update(classes="[")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_files_are_refused(what: str, maml: World, ann: Path, tmp_path: Path) -> None:
    told, tensors = parts(ann)
    code, change = CHANGES[what]
    change(told, tensors)
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path, told)
    with pytest.raises(HeadError, match=r"bad\.safetensors") as error:
        heads.read(path, maml.opened)
    assert error.value.code == code


def test_damage_is_found(maml: World, ann: Path, tmp_path: Path) -> None:
    """Whichever byte is changed and wherever the file ends: an error of ours, or the same head."""
    whole, path = ann.read_bytes(), tmp_path / "bad.safetensors"
    size = len(whole)
    for at in [*range(0, 1200, 41), *range(1200, size, size // 40)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = heads.read(path, maml.opened)
        except HeadError:
            continue
        assert weights_sha256(found.params) == parts(ann)[0]["sha256"]
    for end in (0, 7, 100, size // 2, size - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(HeadError):
            heads.read(path, maml.opened)


def test_infinities_are_refused(maml: World, anns: Head, tmp_path: Path) -> None:
    params = anns.params | {"output.bias": anns.params["output.bias"] * torch.inf}
    path = tmp_path / "bad.safetensors"
    heads.write(path, Head(params, anns.classes), maml.opened, "u", 1)
    with pytest.raises(HeadError, match="not finite"):
        heads.read(path, maml.opened)


def test_a_failed_write_leaves_the_old_head(
    maml: World, anns: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "me.safetensors"
    heads.write(path, anns, maml.opened, "u", 1)
    assert path.stat().st_mode & 0o777 == 0o600  # it is a user's own
    before = path.read_bytes()

    def full(path: Path, content: bytes, mode: int) -> None:
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heads, "sync_file", full)
    other = Head({name: value + 1 for name, value in anns.params.items()}, anns.classes)
    with pytest.raises(ValueError, match="No space left"):
        heads.write(path, other, maml.opened, "u", 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_heads_of_other_runs(maml: World, ann: Path, tmp_path: Path) -> None:
    """Of another backbone, and of another model on the same one."""
    wide = world(tmp_path / "wide", **able("maml"), backbone__columns=64)
    with pytest.raises(HeadError, match="another backbone"):
        heads.read(ann, wide.opened)
    other = world(tmp_path / "other", **able("maml"), run__seed=1)
    with pytest.raises(HeadError, match="another model"):
        heads.read(ann, other.opened)


def test_commands_refuse_in_a_line(fedmeta: Command, maml: World, ann: Path) -> None:
    run = maml.opened.folder
    asked = ("--head", ann, "--text", "a text")
    assert fedmeta("predict", run, *asked).code == 0
    bad = Path("bad.safetensors")
    bad.write_bytes(ann.read_bytes()[:-9])
    Path("text.csv").write_text("user,text\nu,hello\nv,hi\n")
    Path("label.csv").write_text("text,label\nhello,9\n")
    Path("near.csv").write_text("text,lable\nhello,1\n")
    Path("none.csv").write_text("text,label\n")
    Path("numbers.csv").write_text("a,b,label\n1,2,0\n")
    make = ("personalize", run, "--out", "new.safetensors", "--data")
    for words, *args in (
        ("is damaged", "predict", run, "--head", bad, "--text", "a"),
        ("cannot be read", "predict", run, "--head", "no.safetensors", "--text", "a"),
        ("one of the two", "predict", run, "--head", ann),
        ("no config.toml and summary.json", "predict", ".", *asked),
        ("no such file", *make, "gone.csv"),
        ("a folder; name the file in it", *make, "."),
        ("no label column 'label'", *make, "text.csv", "--user", "u"),
        ("columns found: text, lable; did you mean 'lable'", *make, "near.csv"),
        ("has 2 users", *make, "text.csv"),
        ("no row of", *make, "text.csv", "--user", "w"),
        ("none of the run's classes", *make, "label.csv"),
        ("no rows", *make, "none.csv"),
        ("holds numbers", *make, "numbers.csv"),
        ("expected a table", *make, ann),
    ):
        found = fedmeta(*args)
        assert found.code == 2, (args, found)
        assert words in found.err, (args, found.err)
        assert found.err.count("\n") == 1
        assert not Path("new.safetensors").exists()


def test_runs_that_do_not_hang_together(maml: World, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = problem(**able("maml"))
    opened = folder_of(found, folder)
    model = folder / "model.safetensors"
    for params, words in (
        ({**opened.theta, "output.bias": torch.zeros(5)}, r"has shape \[5\]"),
        ({**opened.theta, "output.bias": opened.theta["output.bias"] + 1}, "the file was changed"),
    ):
        save_file(params, model)
        with pytest.raises(ValueError, match=words):
            open_run(folder)
    model.write_bytes(model.read_bytes()[:50])
    with pytest.raises(ValueError, match="is it a whole file"):
        open_run(folder)
    save_file(opened.theta, model)
    open_run(folder)
    (folder / "personal.json").unlink()  # as in runs of before: the data tell
    assert open_run(folder).needs == opened.needs
    (folder / "personal.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match="has format 9, expected 1"):
        open_run(folder)


def test_one_of_several_users(fedmeta: Command, maml: World) -> None:
    table = pd.read_csv(maml.file)
    both = pd.concat([table, table.assign(user="other", text="x", label=table["label"][0])])
    both.to_csv("both.csv", index=False)
    args = ("--data", "both.csv", "--user", maml.user, "--out", "both.safetensors", "--json")
    assert fedmeta("personalize", maml.opened.folder, *args).json["examples"] == len(table)
