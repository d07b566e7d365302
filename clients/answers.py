"""The last replies of a node, on its disk: a message that comes again gets the same bytes.

Noise in a deployment is fresh every time. Computed once more, a repeated message would be a second
release with a price of its own; so what was sent is kept until the round is long over.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clients.disk import sync, sync_file
from clients.wire import Sum


def look_up(folder: Path, round_number: int, request: str) -> Sum | None:
    """What was answered to a request in a round; None: nothing, or to another one.

    A file that is damaged is no answer: the release is made, and paid for, anew.
    """
    path = folder / f"{round_number}.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata() or {}
            if about.get("request") != request:
                return None
            # In the order in which it was sent: the file has another, and the bytes are the same.
            total = {name: file.get_tensor(name) for name in json.loads(about["names"])}
            return Sum(total=total, **json.loads(about["fields"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def keep(folder: Path, round_number: int, request: str, reply: Sum, rounds: int) -> None:
    """Write an answer; the disk has it on return. Only those of the last ``rounds`` stay.

    Raises:
        OSError: the disk is full or broken.
    """
    if not rounds:
        return
    fields = reply._asdict()
    total = {name: np.ascontiguousarray(value) for name, value in fields.pop("total").items()}
    about = {"fields": json.dumps(fields), "names": json.dumps(list(total))}
    content = save(total, {"request": request, **about})
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{round_number}.part"
    sync_file(beside, content, 0o600)
    beside.replace(folder / f"{round_number}.safetensors")
    sync(folder)
    for old in sorted(_rounds(folder))[:-rounds]:
        (folder / f"{old}.safetensors").unlink(missing_ok=True)


def _rounds(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdigit()]
