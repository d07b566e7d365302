"""Users and their data: `load` turns a `DataConfig` into a `UserStore`."""

from fedmeta.data.raw import DataError
from fedmeta.data.sources import DATA, load, wrap
from fedmeta.data.store import SPLITS, UserStore

__all__ = ["DATA", "SPLITS", "DataError", "UserStore", "load", "wrap"]
