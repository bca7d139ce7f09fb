"""Where a Ray cluster is. To be used before ray is imported."""

from __future__ import annotations

import os
import socket

_TIMEOUT_S = 10.0
_LOOPBACK = ("127.", "localhost", "[::1]")
_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray replaces loopback addresses by one that other machines reach, except on systems where it runs on one machine
only. This variable, which it reads when it is imported, says whether this is one of them."""


def prepare(address: str | None) -> None:
    """Keep Ray on the loopback interface where it shall be used on this machine only, and see that there is one.

    Args:
        address: Of a cluster, as in `runtime.ray.address`; None: Ray will be started on this machine.

    Raises:
        OSError: Nothing answers at host:port. Ray itself would go on asking for minutes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or address.startswith(_LOOPBACK):
        os.environ.setdefault(_SWITCH, "0")
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
