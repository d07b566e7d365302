"""Several of Flower's commands in one process: ``python -m experiments.deploy.several JSON``.

They are what an operator would type, one after the other; loading Flower takes longer than any.
"""

import json
import sys
from collections.abc import Sequence


def main(commands: Sequence[Sequence[str]]) -> int:
    """Run the commands up to the first that fails; its exit code, or 0."""
    from flwr.cli.app import app

    for arguments in commands:
        try:
            app(args=list(arguments), standalone_mode=False)
        except SystemExit as end:
            if end.code:
                return int(end.code) if isinstance(end.code, int) else 1
        except Exception as error:  # a command of Flower's may raise anything
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
