"""Writing reports: at the end of a command, and on demand."""

import sys
from pathlib import Path

from experiments.report.parts import Page
from fedmeta.config import ConfigError

FILE = "report.html"


def page_of(folders: list[Path]) -> Page:
    """The page of a folder of any command, or of several runs.

    Raises:
        ConfigError: no finished run, or runs that cannot stand on one page.
    """
    from experiments.report import grid_pages, run_page, scores
    from experiments.report.runs import kind_of

    kind = kind_of(folders[0])
    try:
        if len(folders) > 1 or kind in ("summary", "compare"):
            return run_page.page_of(folders, kind)
        return grid_pages.page_of(folders[0], kind)
    finally:
        scores.resampled.cache_clear()  # of many users they take memory


def write(page: Page, path: Path) -> None:
    """The page as a file; who looks finds the old one or the new one.

    Raises:
        ConfigError: a file that is no report of ours is there, or it cannot be written.
    """
    from experiments.report.page import MARK, html

    text = html(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:4000]:
            raise ConfigError(f"--out {str(path)!r} is no report of fedmeta; name another file")
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror or error}") from None


def after(folder: Path, wanted: bool = True) -> None:
    """The report of a folder at the end of a command; a run is never lost to it.

    What goes wrong is told in one line on standard error.
    """
    if not wanted:
        return
    try:
        write(page_of([folder]), folder / FILE)
    except Exception as error:
        print(
            f"the run is complete, but its report could not be written: {type(error).__name__}:"
            f" {' '.join(str(error).split())[:300]}; `fedmeta report {folder}` tries again",
            file=sys.stderr,
        )
