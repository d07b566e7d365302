"""Where the processes of a deployment connect to, as Python tells and as the system sees it."""

import os
import threading
from pathlib import Path

from experiments.deploy import processes
from experiments.deploy.layout import Deployment

HOOK = """
import os, sys
LOG = os.environ.get("FEDMETA_TEST_SOCKETS", "")
def _heard(event, arguments):
    if LOG and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(LOG, "a") as file:
            file.write(f"{event} {arguments[1:] if event == 'socket.connect' else arguments}\\n")
if LOG:
    sys.addaudithook(_heard)
"""
"""Heard by every Python process that starts with its folder in its path."""
HERE = ("127.0.0.1", "localhost", "::1", "127.0.0.2")


def watch(deployment: Deployment, far: set[str], ending: threading.Event) -> None:
    """Where the processes of a deployment are connected to, as the system sees it."""
    while not ending.wait(1.0):
        started = processes.every(deployment.folder)
        inodes = set()
        for pid in processes.members(started):
            try:
                links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
            except OSError:
                continue
            inodes |= {one[8:-1] for one in links if one.startswith("socket:[")}
        for name in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                remote, _, port = fields[2].rpartition(":")
                if fields[9] in inodes and int(port, 16) and not _loopback(remote):
                    far.add(line)


def _loopback(address: str) -> bool:
    """Of an address as the kernel writes it: bytes of each word in reverse."""
    if len(address) == 8:
        return address.endswith("7F")
    mapped = address.startswith("0000000000000000FFFF0000") and address.endswith("7F")
    return mapped or address == "00000000000000000000000001000000"
