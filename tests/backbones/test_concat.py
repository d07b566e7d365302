"""Encoders side by side: against each alone, and what makes a new cache key."""

from pathlib import Path

import numpy as np
import pytest

from fedmeta.backbones import BackboneError, concat, features, models, resolve
from fedmeta.sections.data import BackboneConfig
from tests.backbones.conftest import TEXTS, StoreOf


def config(name: object, cache: Path, columns: int = 64) -> BackboneConfig:
    return BackboneConfig(name=str(name), cache=str(cache), max_length=16, columns=columns)


def alone(name: object, store_of: StoreOf, cache: Path, columns: int = 64) -> np.ndarray:
    return np.array(features(store_of(TEXTS), config(name, cache, columns)))


def test_inner_products_are_the_mean_of_the_encoders(
    bert: Path, tmp_path: Path, store_of: StoreOf
) -> None:
    both = alone(f"{bert}+hashing", store_of, tmp_path)
    one, other = alone(bert, store_of, tmp_path), alone("hashing", store_of, tmp_path)
    assert both.shape == (len(TEXTS), one.shape[1] + 64)
    np.testing.assert_allclose(both @ both.T, (one @ one.T + other @ other.T) / 2, atol=1e-6)


def test_order_of_columns_is_that_of_the_name(
    bert: Path, tmp_path: Path, store_of: StoreOf
) -> None:
    both = alone(f"hashing + {bert}", store_of, tmp_path)
    words = alone("hashing", store_of, tmp_path)
    np.testing.assert_allclose(both[:, :64], words / np.sqrt(2), atol=1e-7)


def test_whatever_changes_a_part_changes_the_whole(
    bert: Path, other_bert: Path, tmp_path: Path, store_of: StoreOf
) -> None:
    found = [
        alone(f"{first}+hashing", store_of, tmp_path, columns)
        for first, columns in ((bert, 64), (other_bert, 64), (bert, 65), (bert, 64))
    ]
    assert np.abs(found[0] - found[1]).max() > 0.01
    assert found[2].shape[1] == found[0].shape[1] + 1
    np.testing.assert_array_equal(found[0], found[3])
    assert len(list((tmp_path / "features").glob("concat-*"))) == 3


def test_parts_are_resolved(store_of: StoreOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "minilm_available", lambda: True)
    assert resolve("auto + hashing", store_of(TEXTS)) == "minilm+hashing"
    with pytest.raises(BackboneError, match="'identity', but the items of 'made up' are texts"):
        resolve("hashing+identity", store_of(TEXTS))
    with pytest.raises(BackboneError, match=r"'minilm\+hashing' takes texts"):
        resolve("minilm+hashing", store_of(np.zeros((2, 3), dtype=np.float32)))


@pytest.mark.parametrize("name", ["minilm+", "+", "minilm++hashing", "hashing+hashing"])
def test_what_is_no_list_of_encoders(name: str, store_of: StoreOf) -> None:
    with pytest.raises(BackboneError, match=r"expected different encoders.*minilm\+hashing"):
        resolve(name, store_of(TEXTS))


def test_without_minilm_auto_and_hashing_are_the_same_encoder(
    store_of: StoreOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "minilm_available", lambda: False)
    with pytest.raises(BackboneError, match="different encoders"):
        features(store_of(TEXTS), config("auto+hashing", tmp_path))


def test_a_folder_may_have_a_plus_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a+b"
    folder.mkdir()
    assert concat.parts(str(folder)) == [str(folder)]
