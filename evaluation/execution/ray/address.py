"""Checks the address of a Ray cluster. Must be used before ray is imported."""

from __future__ import annotations

import os
import socket

from evaluation.errors import UsageError

_TIMEOUT_S = 10.0
_LOOPBACK = ("127.", "localhost", "[::1]")
_CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray replaces loopback addresses by an address that other machines can reach, unless this variable, which it reads
when it is imported, says that clusters of several machines are not supported."""


def prepare(address: str | None) -> None:
    """Prepares the import of ray: keeps a Ray for this machine alone on the loopback interface, checks the address.

    Args:
        address: The cluster's address, as in `runtime.ray.address`; None starts Ray on this machine.

    Raises:
        UsageError: Nothing answers at host:port. Ray itself would retry for minutes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or address.startswith(_LOOPBACK):
        os.environ.setdefault(_CLUSTER_SWITCH, "0")
    if address is not None and "://" in address:
        raise UsageError(
            f"runtime.ray.address {address!r}: Ray's client (ray://) is not supported; use host:port or auto."
        )
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
        except OSError as error:
            raise no_cluster(address, error) from error


def no_cluster(address: str | None, error: Exception) -> UsageError:
    """Returns the error for an address at which there is no cluster."""
    if address == "auto":
        return UsageError(
            "runtime.ray.address auto: this node belongs to no Ray cluster; start one with `ray start --head`, or use "
            "host:port."
        )
    where = "on this machine" if address is None else f"at {address!r} (runtime.ray.address)"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return UsageError(f"there is no Ray cluster {where}: {reason}.")
