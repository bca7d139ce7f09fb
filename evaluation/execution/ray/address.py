"""Where a Ray cluster is. To be used before ray is imported."""

from __future__ import annotations

import os
import socket

from evaluation.errors import UsageError

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
        UsageError: Nothing answers at host:port. Ray itself would go on asking for minutes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or address.startswith(_LOOPBACK):
        os.environ.setdefault(_SWITCH, "0")
    if address is not None and "://" in address:
        raise UsageError(
            f"runtime.ray.address {address!r}: give host:port, or auto; Ray's client (ray://) can't be used."
        )
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
        except OSError as error:
            raise no_cluster(address, error) from error


def no_cluster(address: str | None, error: Exception) -> UsageError:
    """A sentence for an address without a cluster."""
    if address == "auto":
        return UsageError(
            "runtime.ray.address auto: this node belongs to no Ray cluster; start one with `ray start --head`, or give "
            "host:port."
        )
    where = "on this machine" if address is None else f"at {address!r} (runtime.ray.address)"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return UsageError(f"there is no Ray cluster {where}: {reason}.")
