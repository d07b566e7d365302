"""What a node says when it does not answer: one of a few fixed texts, never what is in its way.

The full reason may hold a user's data. It goes to the node's own log.
"""

import errno
import os

from flwr.app import Error, Message

NO_SPACE = os.strerror(errno.ENOSPC)
REFUSED = 900
"""Code of a node's error replies; Flower's own are below 100."""

CODES = {
    "policy": "the owner's policy does not allow it",
    "config": "the config or the facts of the run cannot be used",
    "order": "the message is not what a node is asked",
    "shape": "the parameters are not those of this head and encoder",
    "data": "the user's own data cannot be used",
    "backbone": "the encoder is not that of the run, or cannot be had",
    "ledger": "the privacy ledger cannot be written",
    "disk": "the node's folder cannot be written",
    "node": "the node itself is not set up",
    "failed": "something failed on the node",
}
"""All that a refusal can say, beside the name of a rule of the policy or of a class of errors."""


class RefusedError(Exception):
    """A message that the node does not obey."""

    def __init__(self, code: str, why: str, rule: str = "") -> None:
        """``code`` is one of :data:`CODES`; ``rule`` of fixed words; ``why`` stays on the node."""
        super().__init__(f"{CODES[code]}: {why}")
        self.code, self.rule = code, rule


def reason(code: str, rule: str = "") -> str:
    """What leaves the node."""
    return f"refused: {code}{f' ({rule})' if rule else ''}: {CODES[code]}"


def code_of(text: str | None) -> str:
    """The code in such a text, as the server counts it; `node-failed` for any other, or none.

    >>> code_of(reason("policy", "max-clip")), code_of("Traceback ..."), code_of(None)
    ('node-policy', 'node-failed', 'node-failed')
    >>> code_of("<class 'OSError'>:<'[Errno 28] No space left on device: ...'>")
    'node-disk'
    """
    text = text or ""
    if NO_SPACE in text:  # Flower itself could not write there, and says so in its own words
        return "node-disk"
    word = text.removeprefix("refused: ").split(":")[0].split(" ")[0]
    return f"node-{word}" if text.startswith("refused: ") and word in CODES else "node-failed"


def error_reply(message: Message, code: str, rule: str = "") -> Message:
    """The reply that says so."""
    return Message(Error(REFUSED, reason(code, rule)), reply_to=message)
