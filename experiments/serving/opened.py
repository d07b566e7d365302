"""A finished run, opened: what new users begin with, and how they adapt."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from experiments import settings
from experiments.serving import needs as card
from experiments.serving.needs import Needs
from fedmeta.config import Config, ConfigError
from fedmeta.head_file import weights_sha256
from fedmeta.heads import TAKES
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.methods import METHODS, Method
from fedmeta.problem import build, inner_loops, model_of


class Opened(NamedTuple):
    """A run whose users can be served.

    Attributes:
        folder: of the run.
        config: resolved.
        needs: what the model takes and says.
        method: the method.
        model: head and loss.
        theta: what a new user is sent.
        inner: how he adapts: rate and steps as validation users chose them.
        sha256: of ``theta``, the summary's `model_sha256`.
    """

    folder: Path
    config: Config
    needs: Needs
    method: Method
    model: Model
    theta: dict[str, Tensor]
    inner: Inner
    sha256: str


def open_run(folder: Path) -> Opened:
    """The run in a folder, checked.

    Raises:
        ConfigError: no finished run there, files that are damaged or do not belong together.
    """
    folder = folder.expanduser()
    rate, steps, sha256 = _summary(folder)
    config = settings.read(folder / "config.toml")
    if config.method.name not in METHODS:
        raise ConfigError(
            f"run {str(folder)!r}: method.name = {config.method.name!r} is not one of this"
            f" version's: {', '.join(METHODS)}"
        )
    # Runs of before there was such a file: their data tell.
    there = (folder / card.FILE).exists()
    needs = card.read(folder) if there else card.needs_of(build(config))
    _check_served(config)
    model, _, adapt = inner_loops(config, model_of(config, needs.width, needs.outputs, needs.task))
    theta = _weights(folder, model, sha256)
    inner = replace(adapt, rate=rate, steps=steps)
    return Opened(folder, config, needs, METHODS[config.method.name], model, theta, inner, sha256)


def _check_served(config: Config) -> None:
    """Refuse heads that want more of an item than one vector of numbers."""
    takes = TAKES.get(config.head.name, "vector")
    if takes in ("tokens", "ids") or config.backbone.output == "tokens" or config.data.window:
        raise ConfigError(
            f"head.name = {config.head.name!r} on {takes}: personal models are made of heads on"
            " one vector of each item; use a head such as mlp, or simulate to judge this one"
        )


def _summary(folder: Path) -> tuple[float, int, str]:
    """Rate, steps and the digest of the model."""
    if (folder / "compare.json").is_file():
        runs = sorted(path.parent.name for path in folder.glob("*/summary.json"))
        raise ConfigError(
            f"run {str(folder)!r} is a comparison; name one of its runs: {', '.join(runs)}"
        )
    if not (folder / "config.toml").is_file() or not (folder / "summary.json").is_file():
        raise ConfigError(
            f"run {str(folder)!r}: no config.toml and summary.json there; expected the folder of a"
            " run of `fedmeta simulate` that is over"
        )
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        adapt = summary["adapt"]
        return float(adapt["rate"]), int(adapt["steps"]), str(summary["model_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"run {str(folder)!r}: summary.json cannot be read ({error!r}); go on with the run by"
            " --resume, which writes it anew"
        ) from None


def _weights(folder: Path, model: Model, sha256: str) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    try:
        theta = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read ({error}); is it a whole file?") from None
    wanted = model.head.init(torch.Generator())
    for name, value in wanted.items():
        if name in theta and theta[name].shape != value.shape:
            raise ConfigError(
                f"{str(path)!r}: {name} has shape {list(theta[name].shape)}, and the run's head"
                f" {model.head.name!r} takes {list(value.shape)}; it is the model of another run"
            )
    found = weights_sha256(theta)
    if found != sha256:
        raise ConfigError(
            f"{str(path)!r} has the digest {found[:16]}..., and summary.json says {sha256[:16]}...;"
            " the file was changed, or is another run's: restore it, or run again"
        )
    return theta
