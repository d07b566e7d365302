"""Who may ask for whom: by tokens in a file, before anybody learns which users there are."""

import asyncio
from pathlib import Path

import pytest

from experiments.serving import tokens
from experiments.serving.heads import Head
from experiments.serving.limits import Refusal
from experiments.serving.tokens import Tokens
from fedmeta.config import ConfigError
from tests.serving.test_service import client, filled
from tests.serving.worlds import World

ANN, ALL = "a" * 32, "b" * 32
TEXT = f"# who\n\n{ANN} ann\n{ALL} *\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("header", "user", "status", "code"),
    [
        (f"Bearer {ANN}", "ann", 200, ""),
        (f"bearer {ALL}", "bob", 200, ""),
        (None, "ann", 401, "no_token"),
        (ANN, "ann", 401, "no_token"),
        ("Bearer ", "ann", 401, "no_token"),
        (f"Bearer {ANN}x", "ann", 401, "bad_token"),
        (f"Bearer {ANN}", "bob", 403, "other_user"),
        (f"Bearer {ANN}", "nobody", 403, "other_user"),  # as of one who is there
        ("Bearer *", "ann", 401, "bad_token"),
    ],
)
def test_who_is_answered(
    maml: World, anns: Head, tmp_path: Path, file: Path,
    header: str | None, user: str, status: int, code: str,
) -> None:  # fmt: skip
    (tmp_path / "heads").mkdir()
    store = filled(maml, anns, tmp_path / "heads", ["ann", "bob"])

    async def talk() -> tuple[int, str]:
        async with client(maml, store, known=Tokens(file)) as asking:
            headers = {} if header is None else {"authorization": header}
            body = {"user": user, "texts": maml.items[:1]}
            reply = await asking.post("/v1/predict", json=body, headers=headers)
            assert (reply.headers.get("www-authenticate") == "Bearer") == (status == 401)
            return reply.status_code, reply.json().get("error", {}).get("code", "")

    assert asyncio.run(talk()) == (status, code)


def test_a_file_that_changes_is_read_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    known = Tokens(file, lambda: now[0])
    known.check(f"Bearer {ANN}", "ann")
    file.write_text(f"{'c' * 32} ann\n")
    known.check(f"Bearer {ANN}", "ann")  # within a second
    now[0] = 2.0
    known.check(f"Bearer {'c' * 32}", "ann")
    with pytest.raises(Refusal, match="not known"):
        known.check(f"Bearer {ANN}", "ann")
    file.write_text("no")
    now[0] = 4.0
    known.check(f"Bearer {'c' * 32}", "ann")
    assert "stay as they were" in caplog.text
    file.unlink()
    now[0] = 6.0
    known.check(f"Bearer {'c' * 32}", "ann")


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [
        (TEXT, 0o640, "chmod 600"),
        ("short ann\n", 0o600, "line 1"),
        (f"{ANN} ann bob\n", 0o600, "line 1"),
        (f"# nobody\n{ANN}\n", 0o600, "line 2"),
        ("# nobody\n", 0o600, "has no token"),
    ],
)
def test_files_that_are_no_good(file: Path, text: str, mode: int, word: str) -> None:
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=word) as found:
        tokens.read(file)
    assert ANN not in str(found.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        tokens.read(file.parent / "none")
