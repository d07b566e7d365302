"""Pages of all commands, their text in a file, and a run that is never lost to its report."""

import json
import shlex
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from experiments.report import interactive, page, static, writing
from experiments.report.parts import Cell, Page, Plot, Series, Table
from experiments.reproduce import CONFIGS
from tests.experiments.runs import Result, sets
from tests.report.conftest import EVIL

Call = Callable[..., Result]


class Read(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.found: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [(tag, name, value or "") for name, value in attrs]


def read(text: str) -> Read:
    found = Read()
    found.feed(text)
    return found


def evil_page() -> Page:
    """Whatever a user can name is a script."""
    series = [Series(EVIL, [EVIL, "b"], [1.0, 2.0], [0.0, 1.0], [2.0, 3.0])]
    return Page(
        EVIL, EVIL, [(EVIL, EVIL)],
        [Table("t", EVIL, [(EVIL, (EVIL,)), ("n", ("n",))],
               [[Cell(EVIL, (EVIL,)), Cell("1", (1.0,))]], EVIL)],
        [Plot("p", EVIL, EVIL, EVIL, EVIL, {EVIL: series, "other": series}),
         Plot("q", EVIL, missing=EVIL)],
        [EVIL], EVIL, EVIL, [(EVIL, EVIL)],
    )  # fmt: skip


def test_what_users_name_is_escaped_everywhere() -> None:
    harmless, evil = (
        read(page.html(one)) for one in (evil_page()._replace(verdict="x"), evil_page())
    )
    assert evil.tags == harmless.tags
    assert evil.tags.count("script") == 3
    assert evil.tags.count("li") == 1
    assert not [name for _, name, _ in evil.found if name.startswith("on")]
    values = [json.loads(value) for _, name, value in evil.found if name == "data-values"]
    assert values == [[EVIL], [1.0]]
    data = json.loads(page.html(evil_page()).split('id="data">')[1].split("</script>")[0])
    assert list(data["p"]) == [EVIL, "other"]
    # And were one forgotten, the policy of the page names the only two scripts that may run.
    policy = next(
        v for tag, name, v in evil.found if (tag, name) == ("meta", "content") and "src" in v
    )
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert policy.count("sha256-") == 2


def test_nothing_is_asked_of_a_network(compared: Path) -> None:
    found = read(page.html(writing.page_of([compared])))
    assert not [
        (tag, name, value)
        for tag, name, value in found.found
        if name in ("src", "href", "action", "data") and not value.startswith(("#", "data:"))
    ]


def test_plots_are_figures_of_plotly(compared: Path) -> None:
    """Its own package knows every property of a figure, and refuses all others."""
    graph = pytest.importorskip("plotly.graph_objects", reason="pip install 'fedmeta[dev]'")
    plots = writing.page_of([compared]).plots
    assert len(plots) == 8
    for plot in plots:
        assert plot.views
        for figure in interactive.figures(plot).values():
            graph.Figure(figure)


@pytest.mark.slow
def test_pictures_and_latex_for_papers(compared: Path, tmp_path: Path, fedmeta: Call) -> None:
    shown = fedmeta("report", compared, "--out", tmp_path / "one.html", "--plots")
    assert shown.code == 0, shown.err
    made = [Path(line) for line in shown.out.splitlines()]
    assert len(made) == len(set(made)) == len([path for path in made if path.stat().st_size])
    names = {path.name for path in made}
    assert {"gain.svg", "gain.png", "gains-reptile.svg", "pairs.tex", "methods.tex"} <= names
    text = (tmp_path / "plots" / "methods.tex").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith(("local", "reptile", "fedavg"))]
    assert [line.split(" & ")[0] for line in rows] == ["local", "fedavg", "fedavg-ft", "reptile"]
    assert all(line.count(" & ") == 9 for line in rows)
    assert static.latex(evil_page().tables[0]).count(r"\textless{}script\textgreater{}") >= 2


@pytest.mark.parametrize(
    ("command", "file", "repeats"),
    [
        (("simulate",), "summary.json", "simulate config.toml"),
        (
            ("sweep", "--over", "data.heterogeneity=0,1", "--methods", "local"), "sweep.json",
            "sweep config.toml --over data.heterogeneity=0.0,1.0 --methods fedavg,local --seeds 1",
        ),
        (
            ("attack", CONFIGS / "preferences.toml", "--attacks", "sign-flip", "--rules", "median",
             "--set", "data.support=5", "--set", "method.name=reptile"), "attack.json",
            "attack config.toml --attacks none,sign-flip --rules mean,median --share 0.2",
        ),
        (
            ("frontier", CONFIGS / "preferences.toml", "--methods", "reptile", "--epsilons", "2",
             "--mechanisms", "user/gaussian", "--canaries", "20", "--set", "head.name=linear",
             "--set", "privacy.delta=0.001"), "frontier.json",
            "frontier config.toml --methods local,fedavg,reptile --mechanisms user/gaussian"
            " --epsilons 2 --seeds 1 --canaries 20",
        ),
        (
            ("audit", "--parts", "canaries", "--canaries", "100", "--users", "40",
             "--set", "privacy.unit=user", "--set", "privacy.noise-multiplier=1",
             "--set", "method.name=reptile", "--set", "privacy.delta=0.001"), "audit.json",
            "audit config.toml --parts canaries --users 40 --canaries 100 --repeats 1",
        ),
    ],
    ids=["simulate", "sweep", "attack", "frontier", "audit"],
)  # fmt: skip
def test_every_command_writes_a_report(
    fedmeta: Call, command: tuple[Any, ...], file: str, repeats: str
) -> None:
    where = ("--out", "here", *sets(run__report=True, federation__rounds=2))
    shown = fedmeta(*command, *where)
    assert shown.code == 0, shown.err
    assert "report" not in shown.err
    assert Path("here", file).is_file()
    text = Path("here/report.html").read_text(encoding="utf-8")
    assert f'<code id="command">fedmeta {repeats}' in text
    assert tomllib.loads(Path("here/config.toml").read_text(encoding="utf-8"))
    found = writing.page_of([Path("here")])
    assert found.verdict
    assert found.tables[0].rows
    assert any(plot.views for plot in found.plots)
    static.write(found, Path("plots"))
    for plot in found.plots:
        interactive.figures(plot)


def test_the_command_of_a_report_repeats_the_run(fedmeta: Call, tmp_path: Path) -> None:
    first = fedmeta(
        "simulate", *sets(run__report=True, method__name="reptile"), "--out", "here", "--json"
    )
    text = Path("here/report.html").read_text(encoding="utf-8")
    told = text.split('<code id="command">')[1].split("</code>")[0]
    words = shlex.split(told)
    assert words[0] == "fedmeta"
    words = [str(Path("here", word)) if word == "config.toml" else word for word in words[1:]]
    again = fedmeta(*words, "--out", tmp_path / "again", "--json")
    assert again.json["weights_sha256"] == first.json["weights_sha256"]
    assert first.json["weights_sha256"] in text


def test_a_report_that_fails_loses_no_run(fedmeta: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(writing, "page_of", broken)
    shown = fedmeta("simulate", *sets(run__report=True), "--out", "here", "--json")
    assert shown.code == 0
    assert shown.json["weights_sha256"]
    lines = [line for line in shown.err.splitlines() if "report" in line]
    assert len(lines) == 1
    assert "the run is complete" in lines[0]
    assert "RuntimeError: two lines" in lines[0]
    assert Path("here/summary.json").is_file()
    assert not Path("here/report.html").exists()


def test_bad_folders_and_files_are_refused(fedmeta: Call, compared: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no finished run" in fedmeta("report", empty).err
    mine = tmp_path / "mine.html"
    mine.write_text("my thesis")
    refused = fedmeta("report", compared, "--out", mine)
    assert (refused.code, mine.read_text()) == (2, "my thesis")
    assert "no report of fedmeta" in refused.err
    several = fedmeta("report", compared / "fedavg-seed0", compared / "reptile-seed0")
    assert several.code == 0, several.err
    assert several.out.strip() == "report.html"
    assert "Best for validation users" in Path("report.html").read_text(encoding="utf-8")
    assert fedmeta("report", compared, "--out", "a/new/report.html").code == 0
    assert Path("a/new/report.html").is_file()
