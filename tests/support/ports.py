"""Loopback ports for servers, as `src/cli/stack/ports.rs` gives them: the two pass over each other's."""

import os
import socket

FIRST = 20_000
ROOM = 1_000
USUAL_FIRST_EPHEMERAL = 32_768
RESERVED = []


def free_ports(count):
    """So many ports in a row, free and given to nobody else while this process lives.

    The kernel gives none of them to outgoing connections, so a server finds its own port when it comes back.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8") as file:
        first = int(file.read().split()[0])
    # Where the kernel leaves no room below its own, theirs is all there is.
    end = first if first >= FIRST + ROOM else USUAL_FIRST_EPHEMERAL
    candidates = range(FIRST, end - count + 1)
    # Processes that start together begin at different places.
    start = os.getpid() % len(candidates)
    for step in range(len(candidates)):
        first = candidates[(start + step) % len(candidates)]
        ports = list(range(first, first + count))
        names = [name for name in map(reserve, ports) if name]
        if len(names) == count and all(map(is_free, ports)):
            RESERVED.extend(names)
            return ports
        for name in names:
            name.close()
    raise OSError(f"no {count} free ports in a row on loopback from {FIRST} on")


def reserve(port):
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0tidemark-port-{port}")
    except OSError:
        name.close()
        return None
    return name


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
