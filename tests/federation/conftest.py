"""One thread: the tensors are tiny, and threads that wait for each other cost thirtyfold."""

from collections.abc import Iterator

import pytest

from fedmeta.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
