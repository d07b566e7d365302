"""Requests that come together are answered together: one pass of the backbone, one product.

While a batch is computed, on a thread of its own, those who come wait, and are the next batch. A
request that finds nobody there is computed at once: no time is spent waiting for company.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.serving import examples
from experiments.serving.heads import Head, HeadError
from experiments.serving.opened import Opened
from experiments.serving.personal import Room, answers, said
from experiments.serving.store import HeadStore
from fedmeta.backbones.live import Live
from fedmeta.threads import one_thread

MANY = 8
"""Texts from which on several threads encode them: a few are sooner done than threads agree."""
Items = list[str] | NDArray[np.float32]
Answer = list[dict[str, Any]] | HeadError


class Job(NamedTuple):
    """What one request asks: what a user's head says of texts or numbers."""

    user: str
    items: Items


def answer(
    opened: Opened, backbone: Live, store: HeadStore, room: Room, jobs: Sequence[Job]
) -> list[Answer]:
    """The answers to requests, in their order; one that cannot be answered spoils no other."""
    out: list[Answer] = []
    able: list[tuple[int, Head]] = []
    for number, job in enumerate(jobs):
        out.append([])
        try:
            able.append((number, store.get(job.user)))
        except HeadError as error:
            out[number] = error
    if not able:
        return out
    counts = [len(jobs[number].items) for number, _ in able]
    if opened.needs.modality == "text":
        texts = [text for number, _ in able for text in jobs[number].items]
        with one_thread() if len(texts) < MANY else nullcontext():
            features = examples.features(opened, backbone, texts)
    else:
        rows = [np.asarray(jobs[number].items, dtype=np.float32) for number, _ in able]
        features = examples.features(opened, backbone, np.concatenate(rows))
    parts = torch.split(features, counts)
    logits = answers(opened, [head for _, head in able], parts, room)
    for (number, head), one in zip(able, logits, strict=True):
        out[number] = said(opened, head, one)
    return out


Waiting = tuple[Job, "asyncio.Future[Answer]"]


class Batcher:
    """Gathers requests of an event loop into batches of at most ``most`` inputs."""

    def __init__(
        self,
        compute: Callable[[Sequence[Job]], list[Answer]],
        most: int,
        seen: Callable[[int, int], None] = lambda requests, inputs: None,
    ) -> None:
        """``compute`` answers a batch, on a thread; ``seen`` is told of each one's size."""
        self.compute, self.most, self.seen = compute, most, seen
        self._waiting: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "batch")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        """Answer those who wait, then end."""
        await self._waiting.put(None)
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def ask(self, job: Job) -> list[dict[str, Any]]:
        """The answer to a request.

        Raises:
            HeadError: why there is none.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._waiting.put((job, future))
        found = await future
        if isinstance(found, HeadError):
            raise found
        return found

    async def _run(self) -> None:
        ahead: Waiting | None = None  # who found no place in the batch before
        while True:
            first = ahead or await self._waiting.get()
            ahead = None
            if first is None:
                return
            batch, inputs = [first], len(first[0].items)
            while not self._waiting.empty():
                ahead = self._waiting.get_nowait()
                if ahead is None:
                    self._waiting.put_nowait(None)  # the end, after this batch
                    break
                if inputs + len(ahead[0].items) > self.most:
                    break
                batch.append(ahead)
                inputs += len(ahead[0].items)
                ahead = None
            self.seen(len(batch), inputs)
            await self._answer(batch)

    async def _answer(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._thread, self.compute, [job for job, _ in batch]
            )
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), one in zip(batch, found, strict=True):
            if not future.done():  # whoever asked may have gone
                future.set_result(one)
