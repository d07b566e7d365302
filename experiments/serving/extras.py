"""Packages that only some commands need."""

from importlib.util import find_spec

from fedmeta.config import ConfigError

PACKAGES = {
    "serve": ("fastapi", "uvicorn", "prometheus_client", "httpx"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
}


def need(extra: str) -> None:
    """Refuse to go on without the packages of an extra.

    Raises:
        ConfigError: which are missing, and how to get them.
    """
    missing = [name for name in PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"this command needs {', '.join(missing)}: pip install 'fedmeta[{extra}]'"
        )
