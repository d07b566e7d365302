"""Load models without the library's progress bars, and leave its settings as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_ONE_AT_A_TIME = Lock()  # the settings are global: a second thread must not save the first's


@contextmanager
def quiet() -> Iterator[None]:
    """Errors only and no progress bars from transformers while the block runs."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    with _ONE_AT_A_TIME:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        hub_silent = are_progress_bars_disabled()
        logging.set_verbosity_error()
        if bars:
            logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
            if hub_silent:  # transformers' switch turns the hub's on as well
                disable_progress_bars()
