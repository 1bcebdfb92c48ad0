"""Keeps the processes that tests start on this machine; Python imports it when they begin."""

import os
import sys

LOCAL = ("127.0.0.1", "::1", "localhost")
SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg")
ASKS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def local_only(event: str, given: tuple[object, ...]) -> None:
    """Refuse, and note where it is asked for, each way to another machine."""
    if event not in SENDS + ASKS:
        return
    address = given[0] if event in ASKS else given[1]
    host = address[0] if isinstance(address, tuple) else address
    known = (*LOCAL, None, "", "0.0.0.0", "::", os.uname().nodename)
    if isinstance(host, bytes):
        host = host.decode("latin-1")
    if host in known or (isinstance(host, str) and host.startswith("/")):
        return
    if os.environ.get("TUNER_TESTS_NOTES"):
        with open(os.environ["TUNER_TESTS_NOTES"], "a", encoding="utf-8") as notes:
            notes.write(f"{event} {host}\n")
    if event in SENDS:
        raise OSError(f"the tests are offline, but something connects to {address}")


sys.addaudithook(local_only)
