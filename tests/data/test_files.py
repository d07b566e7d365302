"""Table files: every format gives the same users; what is wrong is named."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from fedmeta.data import DataError, load
from fedmeta.data.sources import FILES
from tests.data.rows import config, feature_rows, load_rows, text_rows, with_column, write

TABLES = [ending for ending in FILES if ending != ".npz"]


@pytest.mark.parametrize("ending", TABLES)
def test_texts_of_every_format(tmp_path: Path, ending: str) -> None:
    store = load(config(write(tmp_path / f"data{ending}", text_rows())))
    assert store.name == f"data{ending}"
    assert store.ids == tuple(f"u{u:02d}" for u in range(20))
    assert store.modality == "text"
    assert store.items == tuple(f"message {n}" for n in range(6))  # 120 rows, six texts
    assert store.classes == ("no", "yes")
    np.testing.assert_array_equal(store.offsets, np.arange(21) * 6)
    np.testing.assert_array_equal(store.item, np.tile(np.arange(6), 20))  # in file order
    np.testing.assert_array_equal(store.label, [(u + n) % 2 for u in range(20) for n in range(6)])
    assert store.fold is None
    assert store.bayes is None
    assert store.dropped == {}


@pytest.mark.parametrize("ending", TABLES)
def test_features_of_every_format(tmp_path: Path, ending: str) -> None:
    store = load(config(write(tmp_path / f"data{ending}", feature_rows())))
    assert isinstance(store.items, np.ndarray)
    assert store.items.dtype == np.float32
    wanted = [(u, n + 0.5) for u in range(20) for n in range(6)]
    np.testing.assert_array_equal(store.items[store.item], wanted)
    assert store.classes == ("0", "1")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_images_are_flattened_and_bytes_scaled(tmp_path: Path, ending: str) -> None:
    rows = with_column(text_rows(), "image", lambda i: [[[0, 255], [i % 2, 51]]])
    rows = [{k: v for k, v in row.items() if k != "text"} for row in rows]
    store = load(config(write(tmp_path / f"data{ending}", rows)))
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape == (120, 4)
    np.testing.assert_allclose(store.items[1], [0, 1, 1 / 255, 0.2], rtol=1e-6)


def test_images_of_fractions_and_masks_are_not_scaled(tmp_path: Path) -> None:
    for pixels in ([[0.5, 2.0]], [[0, 1]], [[0, 1000]]):
        rows = [{"user": r["user"], "label": r["label"], "image": pixels} for r in text_rows()]
        store = load_rows(tmp_path, rows)
        assert isinstance(store.items, np.ndarray)
        np.testing.assert_array_equal(store.items[0], pixels[0])


def test_csv_keeps_ids_and_texts_as_written(tmp_path: Path) -> None:
    lines = ["user,text,label"]
    lines += [f"00{u},{text},{n}" for u in range(9) for n, text in enumerate(("null", "7", ""))]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    store = load(config(tmp_path / "a.csv"))
    assert store.ids[0] == "000"
    assert store.items == ("null", "7", "")
    assert store.classes == ("0", "1", "2")


def test_named_columns(tmp_path: Path) -> None:
    rows = [{"who": r["user"], "what": r["text"], "said": r["label"]} for r in text_rows()]
    store = load_rows(tmp_path, rows, user_column="who", text_column="what", label_column="said")
    assert len(store.ids) == 20
    assert store.modality == "text"


def test_feature_columns_are_all_other_numbers_or_those_named(tmp_path: Path) -> None:
    rows = with_column(feature_rows(), "item_fold", lambda i: i % 5)
    rows = with_column(with_column(rows, "note", str), "text", lambda i: "hello")
    named = load_rows(tmp_path, rows, feature_columns="b, a")
    assert isinstance(named.items, np.ndarray)
    np.testing.assert_array_equal(named.items[7], [1.5, 1])  # in the order named, not the text
    auto = load_rows(tmp_path, [{k: v for k, v in r.items() if k != "text"} for r in rows])
    assert isinstance(auto.items, np.ndarray)
    assert auto.items.shape[1] == 2
    assert auto.fold is not None
    assert auto.fold[:7].tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_blank_lines_are_no_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", text_rows())
    path.write_text("\n" + path.read_text().replace("\n", "\n\n"))
    assert len(load(config(path)).label) == 120


LINE = b'{"user": "a", "text": "x", "label": 0}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", LINE + b"{oops\n", "line 2: not JSON"),
        ("a.jsonl", LINE + LINE + b"\xff\n", "line 3: not JSON"),
        ("a.jsonl", LINE + b"[1]\n", r"line 2: \[1\] is not an object"),
        ("a.jsonl", b" \n", "the file is empty"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"user,text,label\n", "no rows"),
        ("a.csv", b"user,text,label\na,b,1\na,b,1,2\n", "line 3, saw 4"),
        ("a.csv", b"user,text,label\n\xff,b,1\n", "not a CSV table in UTF-8"),
        ("a.parquet", b"nonsense", "not a Parquet file"),
        ("a.jsonl.gz", LINE, "cannot be read"),
        ("a.jsonl.gz", gzip.compress(LINE, mtime=0)[:-9], "cannot be read"),
    ],
)
def test_unreadable(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){re.escape(name)}.*{message}"):
        load(config(tmp_path / name))


def test_missing_file_and_unknown_source() -> None:
    with pytest.raises(DataError, match=r"no file nowhere.csv"):
        load(config("nowhere.csv"))
    with pytest.raises(DataError, match=r"'preferencs' is neither.*did you mean 'preferences'"):
        load(config("preferencs"))


@pytest.mark.parametrize(
    ("gone", "values", "message"),
    [
        ("user", {}, "no user column 'user'; .*text, label.*--set data.user-column="),
        ("label", {}, "no label column 'label'; .*--set data.label-column="),
        ("", {"user_column": "usr"}, "no user column 'usr'.*did you mean 'user'"),
        ("", {"split_column": "part"}, "no split column 'part'"),
        ("", {"fold_column": "part"}, "no fold column 'part'"),
        ("", {"feature_columns": "x"}, "no feature column 'x'"),
        ("", {"feature_columns": "text"}, "feature column 'text' is not numeric.*'message 0'"),
        ("text", {}, "no inputs: .*--set data.text-column="),
    ],
)
def test_missing_column(tmp_path: Path, gone: str, values: dict[str, str], message: str) -> None:
    rows = [{k: v for k, v in row.items() if k != gone} for row in text_rows()]
    with pytest.raises(DataError, match=message):
        load_rows(tmp_path, rows, **values)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("user", None, "row 4 has no user id"),
        ("text", None, "row 4 has no text"),
        ("label", None, "row 4 has no label"),
        ("label", "", "row 4 has no label"),
        ("label", float("nan"), "row 4 has no label"),
        ("item_fold", 0.5, "row 4 has the item fold 0.5"),
        ("item_fold", None, "row 4 has the item fold"),
        ("image", [[1, 2, 3]], "images of one shape"),
        ("image", "cat.png", "images of one shape"),
        ("a", None, "row 4, feature 'a' is nan"),
        ("a", float("inf"), "row 4, feature 'a' is inf"),
        ("a", 1e300, "row 4, feature 'a' is inf"),
    ],
)
def test_bad_value(tmp_path: Path, column: str, value: object, message: str) -> None:
    rows = feature_rows() if column == "a" else text_rows()
    if column == "image":
        rows = [{"user": r["user"], "label": r["label"], "image": [[1, 2]]} for r in rows]
    rows = rows if column != "item_fold" else with_column(rows, "item_fold", lambda i: i % 5)
    rows[3][column] = value
    with pytest.raises(DataError, match=message):
        load_rows(tmp_path, rows)


def test_a_hole_in_a_csv_is_named_and_drops_no_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", feature_rows())
    path.write_text(path.read_text().replace("u00,0.0,1.5", "u00,,1.5"))
    with pytest.raises(DataError, match="row 2, feature 'a' is nan"):
        load(config(path))
