"""Data without users are divided among users by Flower Datasets' partitioners."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.labels import encode
from fedmeta.data.raw import DataError
from fedmeta.sections.data import DataConfig
from fedmeta.seeding import generator, key


def partition(label: NDArray[Any], config: DataConfig, name: str) -> list[NDArray[np.int64]]:
    """Rows of each of ``data.users`` users, in a seeded random order; no row is used twice.

    ``iid``, ``dirichlet`` (label shares of concentration ``data.alpha``; also ``auto``) or
    ``pathological`` (``data.classes_per_user`` classes each).

    Raises:
        DataError: too few examples for that many users with ``data.support``, or what the
            partitioner refuses.
    """
    import datasets

    kind = "dirichlet" if config.partitioner == "auto" else config.partitioner
    if kind not in PARTITIONERS:
        raise DataError(
            f"{name}: data.partitioner = {kind!r} needs a column of user ids, and there is none; "
            f"choose one of {', '.join(PARTITIONERS)}"
        )
    most = len(label) // (config.support + 1)
    if config.users > most:
        raise DataError(
            f"{name}: {len(label)} examples cannot give {config.users} users "
            f"{config.support + 1} examples each (data.support = {config.support} and one to be "
            f"judged on); at most {most} users can have them: --set data.users=N, or lower "
            "data.support"
        )
    codes, classes = encode(label, config.task, name)
    if not classes and kind != "iid":
        raise DataError(
            f"{name}: data.partitioner = {kind!r} divides classes, but the labels are numbers; "
            "use --set data.partitioner=iid"
        )
    # The partitioners cut the rows in their order (iid does nothing else), so shuffle them.
    order = generator(config.seed, "partition-order").permutation(len(label))
    table = datasets.Dataset.from_dict({"row": order, "label": codes[order]})
    divider = PARTITIONERS[kind](config)
    divider.dataset = table
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # classes or users that go empty
            return [
                np.asarray(divider.load_partition(user)["row"], dtype=np.int64)
                for user in range(config.users)
            ]
    except (ValueError, UserWarning) as error:
        raise DataError(
            f"{name}: {kind} cannot make data.users = {config.users} users: {error}"
        ) from None


def _iid(config: DataConfig) -> Any:
    from flwr_datasets.partitioner import IidPartitioner

    return IidPartitioner(num_partitions=config.users)


def _dirichlet(config: DataConfig) -> Any:
    from flwr_datasets.partitioner import DirichletPartitioner

    return DirichletPartitioner(
        num_partitions=config.users,
        partition_by="label",
        alpha=config.alpha,
        min_partition_size=0,  # small users are dropped, and counted, by `select`
        seed=key(config.seed, "partition"),
    )


def _pathological(config: DataConfig) -> Any:
    from flwr_datasets.partitioner import PathologicalPartitioner

    return PathologicalPartitioner(
        num_partitions=config.users,
        partition_by="label",
        num_classes_per_partition=config.classes_per_user,
        class_assignment_mode="first-deterministic",  # no class goes unused with enough users
        seed=key(config.seed, "partition"),
    )


PARTITIONERS: dict[str, Callable[[DataConfig], Any]] = {
    "iid": _iid,
    "dirichlet": _dirichlet,
    "pathological": _pathological,
}
