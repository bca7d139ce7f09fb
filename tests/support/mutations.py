"""Mutates files as a fuzzer does: bytes of any file, values of JSON documents. A seed always gives the same."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

_TOKENS = (
    b"null", b"-1", b"1e999", b"NaN", b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b"\n", b"\t", b"\0", b"\xff",
    b"- ",     b"&a ", b"*a", b"<<: ", b"!!binary ", b"99999999999999999999", b"\xed\xa0\x80", b"\\ud800",
    b"\xef\xbb\xbf", b"''", b"~",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, -0.0, "", "\0", "../..", "/etc/passwd", "a" * 300, "\ud800", [], {}, [[]],
    {"": None}, "NaN", "2020-01-01",
)  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to four small changes: flipped bits, other bytes, tokens put in, spans cut out, doubled or moved."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice([1, 1, 2, 8, 64, 512]))
        match rng.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(changed):
                changed[at] = rng.randrange(256)
            case 2:
                changed[at:at] = rng.choice(_TOKENS)
            case 3:
                del changed[at:end]
            case 4:
                changed[at:at] = changed[at:end] * rng.choice([1, 1, 3])
            case _ if rng.random() < 0.1:
                del changed[at:]
    return bytes(changed)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON document with one to three of its values replaced, removed, doubled, or moved, or its keys renamed."""
    document = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case 2 if isinstance(holder, dict):
                holder[rng.choice(["", "x", f"{key}x", "schema_version"])] = holder.pop(key)
            case 3:
                other, name = rng.choice(places)
                try:
                    holder[key] = copy.deepcopy(other[name])
                except (KeyError, IndexError):  # removed before
                    continue
            case _:
                holder[key] = copy.deepcopy(rng.choice(_VALUES))
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    found = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found


Mutation = Callable[[bytes, random.Random], bytes]
