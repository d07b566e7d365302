"""What `flwr run` ships to the nodes: two lines of Python and the names of the settings.

All else is in the package that each node has installed. So the owner of a node decides which code
it runs, and a change of the code is an upgrade of the package there.
"""

import shutil
from importlib.metadata import version
from pathlib import Path

import tomli_w

from experiments import flower_config
from experiments.deploy.files import write_public

PACKAGE = "fedmeta_deployed"
SERVER, CLIENT = "experiments.deploy.server_app", "experiments.deploy.client_app"


def write(folder: Path, server: str = SERVER, client: str = CLIENT) -> None:
    """Write the app.

    Args:
        folder: of the app; what was there goes.
        server, client: modules whose `app` it starts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    head = {
        "build-system": {"requires": ["setuptools"], "build-backend": "setuptools.build_meta"},
        "project": {
            "name": "fedmeta-deployed",
            "version": version("fedmeta"),
            "description": "Starts the fedmeta that is installed on the node",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedmeta",
                    "components": {
                        "serverapp": f"{PACKAGE}.server:app",
                        "clientapp": f"{PACKAGE}.client:app",
                    },
                }
            }
        },
    }
    text = tomli_w.dumps(head) + "\n" + flower_config.render()
    write_public(folder / "pyproject.toml", text.encode())
    write_public(folder / PACKAGE / "__init__.py", b'"""Starts what is installed."""\n')
    for name, module in (("server", server), ("client", client)):
        # Flower looks for an assignment before it takes an app.
        content = f'"""The {name} that is installed."""\n\nimport {module}\n\napp = {module}.app\n'
        write_public(folder / PACKAGE / f"{name}.py", content.encode())
