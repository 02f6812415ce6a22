"""A gNMI target that costs next to nothing: frames made beforehand, sent as fast as flow control lets it.

`python -m benchmarks.gnmi_source KIND UPDATES PORT_FILE [CERTIFICATE]` serves one connection and ends. KIND is
`single`, `bundled` or `json`. grpc-go's servers send a DATA frame a message; so does this.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import threading
from pathlib import Path

from tests.gnmi_messages import NOW_NS, notification, update
from tests.gnmi_server import ACK, BEGIN, HEADERS, SETTINGS, WINDOW_UPDATE, data, frame, message, trailers

INTERFACES = 500
COUNTERS = [
    f"{way}-{what}"
    for way in ("in", "out")
    for what in ("octets", "pkts", "unicast-pkts", "multicast-pkts", "broadcast-pkts", "errors", "discards")
]
ROUND = INTERFACES * len(COUNTERS)
FIRST_WINDOW = 65_535
PREFACE = 24
AT_ONCE = 1 << 18
#: For clients whose windows do not take as much, such as those of grpc-go.
LITTLE = 1 << 14


def value_of(interface: int, counter: int) -> int:
    """Return the value of a counter."""
    return 123_456_789_012_345 + interface * 1000 + counter


def messages(kind: str) -> list[bytes]:
    """Return one round of all counters."""
    found = []
    for i in range(INTERFACES):
        prefix = f"/interfaces/interface[name=Ethernet{i}]/state/counters"
        values = {name: value_of(i, n) for n, name in enumerate(COUNTERS)}
        match kind:
            case "single":
                found += [notification(update(f"{prefix}/{name}", uint_val=v)) for name, v in values.items()]
            case "bundled":
                found.append(notification(*(update(name, uint_val=v) for name, v in values.items()), prefix=prefix))
            case _:
                tree = json.dumps({name: str(v) for name, v in values.items()}).encode()
                found.append(notification(update(prefix, json_ietf_val=tree), timestamp=NOW_NS))
    return found


class _Windows:
    """What may be sent, by the frames that the other side sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._of = {0: FIRST_WINDOW, 1: FIRST_WINDOW}
        self._changed = threading.Condition()
        self.begun = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def has(self, wanted: int) -> bool:
        """Tell whether so many octets may be sent now."""
        with self._changed:
            return min(self._of.values()) >= wanted

    def take(self, wanted: int) -> None:
        """Wait until so many octets may be sent."""
        with self._changed:
            self._changed.wait_for(lambda: min(self._of.values()) >= wanted)
            for stream in self._of:
                self._of[stream] -= wanted

    def _read(self) -> None:
        octets, preface = b"", PREFACE
        while more := self._connection.recv(1 << 16):
            octets += more
            if len(octets) < preface:
                continue
            octets, preface = octets[preface:], 0
            while len(octets) >= 9 and len(octets) >= 9 + (length := int.from_bytes(octets[:3], "big")):
                self._hear(octets[3], octets[4], octets[5:9], octets[9 : 9 + length])
                octets = octets[9 + length :]

    def _hear(self, kind: int, flags: int, stream: bytes, payload: bytes) -> None:
        number = int.from_bytes(stream, "big")
        with self._changed:
            if kind == WINDOW_UPDATE and number in self._of:
                self._of[number] += int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & ACK:
                for name, value in struct.iter_unpack(">HI", payload):
                    if name == 4:
                        self._of[1] += value - FIRST_WINDOW
            elif kind == HEADERS:
                self.begun.set()
            self._changed.notify()


def chunks(frames: list[bytes], size: int) -> list[tuple[bytes, int]]:
    """Return frames together, as octets and what flow control counts of them."""
    found: list[tuple[bytes, int]] = []
    for one in frames:
        if not found or len(found[-1][0]) + len(one) > size:
            found.append((b"", 0))
        octets, flow = found[-1]
        found[-1] = (octets + one, flow + len(one) - 9)
    return found


def main() -> None:
    """Serve one connection."""
    kind, updates, port_file, *certificate = sys.argv[1:]
    frames = [data(message(one)) for one in messages(kind)]
    much, little = chunks(frames, AT_ONCE), chunks(frames, LITTLE)
    wide = max(flow for _, flow in much)
    listener = socket.create_server(("127.0.0.1", 0))
    Path(port_file).write_text(str(listener.getsockname()[1]), encoding="utf-8")
    connection, _ = listener.accept()
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[0])
        context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(connection, server_side=True)
    windows = _Windows(connection)
    connection.sendall(frame(SETTINGS) + frame(SETTINGS, flags=ACK))
    windows.begun.wait()
    chosen = much if windows.has(wide) else little
    connection.sendall(BEGIN)
    for _ in range(int(updates) // ROUND):
        for octets, flow in chosen:
            windows.take(flow)
            connection.sendall(octets)
    connection.sendall(trailers())
    windows.begun.clear()
    windows.begun.wait(10)  # until the other side has read it all, or is gone


if __name__ == "__main__":
    main()
