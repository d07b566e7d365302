"""``fedmeta personalize``, ``predict``, ``serve`` and ``export``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.options import AsJson, show
from experiments.serving.limits import Limits
from fedmeta.config import ConfigError

RunFolder = Annotated[Path, typer.Argument(help="Folder of a finished run of fedmeta simulate.")]
User = Annotated[
    str | None, typer.Option(help="Whose rows, where the file has several users' rows.")
]
USUAL = Limits()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (personalize, predict, serve, export):
        app.command()(command)


def personalize(
    run: RunFolder,
    data: Annotated[Path, typer.Option(help="Table of the user's labelled examples.")],
    out: Annotated[Path, typer.Option(help="The head's file, NAME.safetensors.")],
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a run's model to a new user, offline; write his head."""
    from experiments.serving import personal
    from experiments.serving.opened import open_run

    found = personal.personalize(open_run(run), data, out, user)
    show(found, _pairs(found), as_json)


def predict(
    run: RunFolder,
    head: Annotated[Path, typer.Option(help="The user's head.")],
    data: Annotated[Path | None, typer.Option(help="Table of inputs; no labels needed.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given again.")] = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Say what a user's head says of texts, or of the rows of a table."""
    from experiments.serving import examples, heads, personal
    from experiments.serving.opened import open_run

    if (data is None) is (not text):
        raise ConfigError("give --text TEXT, once or more often, or --data FILE; one of the two")
    opened = open_run(run)
    mine = heads.read(head, opened)
    items: Any = text
    if data is not None:
        items = examples.read(opened, data, user, labelled=False).items
    else:
        examples.check(items, opened.needs, "--text")
    found = personal.predict(opened, personal.backbone_of(opened), mine, items)
    show(found, _answers(items, found), as_json)


def serve(
    run: RunFolder,
    heads: Annotated[Path, typer.Option(help="Folder of NAME.safetensors, one for each user.")],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8000,
    memory: Annotated[int, typer.Option(min=1, help="MB of heads kept in memory.")] = 512,
    body: Annotated[int, typer.Option(min=1, help="Most bytes of a request.")] = USUAL.body,
    inputs: Annotated[int, typer.Option(min=1, help="Most texts of a request.")] = USUAL.inputs,
    length: Annotated[int, typer.Option(min=1, help="Most characters of a text.")] = USUAL.length,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Most requests in work at a time.")
    ] = USUAL.concurrency,
    rate: Annotated[
        float, typer.Option(min=0, help="Most requests of a user a second; 0: no limit.")
    ] = USUAL.rate,
    tokens: Annotated[
        Path | None, typer.Option(help="File of `TOKEN USER` lines; none: who asks is not asked.")
    ] = None,
) -> None:
    """Answer for many users over HTTP, until told to stop."""
    from experiments.serving.serve import serve as run_service

    limits = Limits(body, inputs, length, concurrency, rate)
    run_service(run, heads, host, port, limits, memory << 20, _ready, tokens)


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The ONNX file.")],
    head: Annotated[Path, typer.Option(help="The user's head.")],
    as_json: AsJson = False,
) -> None:
    """Write backbone and head as one ONNX model, checked against PyTorch."""
    from experiments.serving.onnx import export as write
    from experiments.serving.opened import open_run

    found = write(open_run(run), head, out)
    show(found, _pairs(found), as_json)


def _ready(address: str) -> None:
    print(json.dumps({"listening": address}), flush=True)
    if sys.stderr.isatty():
        print(f"answering at {address}/v1/predict; Ctrl-C ends it", file=sys.stderr)


def _pairs(found: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    for name, value in found.items():
        table.add_row(name, Text(str(value)))
    return table


def _answers(items: Any, found: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("input", "answer", "probability"):
        table.add_column(heading)
    for number, (item, answer) in enumerate(zip(items, found, strict=True)):
        what = Text(item[:60]) if isinstance(item, str) else Text(f"row {number + 1}")
        if "value" in answer:
            table.add_row(what, f"{answer['value']:.4g}", "")
        else:
            label = answer["label"]
            table.add_row(what, Text(label), f"{answer['probabilities'][label]:.3f}")
    return table
