"""A run of 10,000 users: its report is small, opens at once, and says what it leaves out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.report import writing
from fedmeta.methods import METHODS as KNOWN
from tests.report.test_browser import PHONE, WIDE, browser, opened, scrolled  # noqa: F401

pytestmark = pytest.mark.slow
USERS, METHODS = 10_000, ("local", "fedavg", "fedavg-ft", "reptile", "maml", "bias", "ditto")
MANY = tuple(dict.fromkeys([*METHODS, *KNOWN]))[:30]
SHOTS, ROUNDS = (0, 1, 2, 5, 10, 20), 500


def grown(compared: Path, to: Path, methods: Sequence[str] = METHODS, users: int = USERS) -> Path:
    """A comparison with many users and rounds, in the form of one that was run.

    All files have the columns and keys of the small one's; only the numbers are made up.
    """
    random = np.random.default_rng(0)
    content = json.loads((compared / "compare.json").read_text(encoding="utf-8"))
    row = content["methods"]["fedavg-ft"]
    event = json.loads((compared / "reptile-seed0" / "rounds.jsonl").read_text().splitlines()[-1])
    columns = list(pd.read_parquet(compared / "reptile-seed0" / "users.parquet").columns)
    sizes = random.integers(5, 400, users).astype(float)
    ids = [f"user-{number:05d}" for number in range(users)]
    for at, name in enumerate(methods):
        folder = to / f"{name}-seed0"
        folder.mkdir(parents=True)
        frames = []
        for split in ("valid", "test"):
            for k in SHOTS:
                value = 0.5 + 0.01 * at * np.log1p(k) + random.normal(0, 0.1, users)
                frames.append(
                    pd.DataFrame(
                        {"user": ids, "split": split, "method": name, "seed": 0, "k": k,
                         "accuracy": value.clip(0, 1), "f1": value, "loss": 1 - value,
                         "examples": sizes, "bayes": np.nan}
                    )[columns]
                )  # fmt: skip
        pd.concat(frames).to_parquet(folder / "users.parquet")
        lines = [
            event | {"round": r, "rounds": ROUNDS, "valid": 0.5 + r / 2000 + 0.01 * at}
            for r in range(1, ROUNDS + 1)
        ]
        (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = {"train": users, "valid": users, "test": users}
    summary: dict[str, Any] = row | {"users": counts, "seed": 0}
    summary |= {key: summary[key][0] for key in ("weights_sha256", "model_sha256")}
    content["methods"] = {n: summary | {"name": n, "method": n} for n in methods}
    content |= {"seeds": [0], "pairs": [], "decision": content["decision"] | {"method": "maml"}}
    for a in range(len(methods)):
        for b in range(a):
            pair = {"a": methods[a], "b": methods[b], "mean": 0.01 * (a - b), "ci95": [0.0, 0.1]}
            content["pairs"].append(pair)
    (to / "compare.json").write_text(json.dumps(content))
    (to / "config.toml").write_bytes((compared / "config.toml").read_bytes())
    return to


def test_ten_thousand_users(compared: Path, tmp_path: Path, browser: Any) -> None:  # noqa: F811
    folder = grown(compared, tmp_path / "large")
    page = writing.page_of([folder])
    writing.write(page, folder / "report.html")
    size = (folder / "report.html").stat().st_size / 1e6
    assert size < 8
    said = {plot.key: plot.caption for plot in page.plots}
    assert "Every 25th is drawn" in said["gains"]
    assert "600 of 10,000 test users, drawn by lot" in said["examples"]
    tab, seen = opened(browser, folder / "report.html", WIDE, "light")
    # Wall time tells of the machine's other load too; the time of the page's thread does not.
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    tab.reload()
    found = session.send("Performance.getMetrics")["metrics"]
    busy = {one["name"]: one["value"] for one in found}["TaskDuration"]
    loaded = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    print(f"\n{size:.2f} MB; loaded after {loaded:.2f} s, of them {busy:.2f} s busy")
    assert 0 < busy < 2
    scrolled(tab)
    assert seen == []
    tab.context.close()


def test_many_methods_on_a_phone(compared: Path, tmp_path: Path, browser: Any) -> None:  # noqa: F811
    """Names of views, and all lines with their legend, stay within the page."""
    folder = grown(compared, tmp_path / "many", MANY, 200)
    writing.write(writing.page_of([folder]), folder / "report.html")
    for size in (PHONE, WIDE):
        tab, seen = opened(browser, folder / "report.html", size, "dark")
        scrolled(tab)
        for key in ("rounds", "curve"):
            tab.locator(f"select[data-plot={key}]").select_option(index=1)
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        names = tab.locator(".plot[data-plot=curve] .legendtext").all()
        assert len(names) == len(MANY)
        place = tab.locator(".plot[data-plot=curve]").bounding_box()
        for name in names:
            box = name.bounding_box()
            assert place["x"] <= box["x"]
            assert box["x"] + box["width"] <= place["x"] + place["width"]
            assert box["y"] + box["height"] <= place["y"] + place["height"]
        assert seen == []
        tab.context.close()
