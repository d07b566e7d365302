"""Digests of what features depend on: the texts, and the files of a model."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from fedmeta.backbones.errors import BackboneError


def of_texts(texts: Iterable[str]) -> str:
    """SHA-256 of texts and their order; each is preceded by its length.

    >>> of_texts(["ab", "c"]) == of_texts(["a", "bc"])
    False
    """
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def of_recipe(recipe: Mapping[str, str | int]) -> str:
    """SHA-256 of named choices, whatever their order."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def of_files(files: Sequence[Path]) -> str:
    """SHA-256 of the names and contents of files."""
    return of_recipe({file.name: of_file(file) for file in files})


def of_file(file: Path) -> str:
    """SHA-256 of a file; an unchanged file is read once per process."""
    stat = file.stat()
    return _of_file(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _of_file(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights; safetensors where there are both kinds.

    Raises:
        BackboneError: there are none.
    """
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise BackboneError(
        f"{str(folder)!r} holds no model.safetensors and no pytorch_model.bin: name a folder "
        "that `save_pretrained` of model and tokenizer wrote to"
    )


def text_files(folder: Path) -> list[Path]:
    """All else that a model's behaviour may depend on: its config and its tokenizer.

    Rather too many files than too few: a needless one costs a computation, a missing one
    would let stale features pass.
    """
    kinds = (".json", ".txt", ".model")
    return sorted(file for file in folder.iterdir() if file.suffix in kinds and file.is_file())
