"""Sends prebuilt frames as fast as one core can: `gateway_frames.py INTERFACE COUNT FRAME OWN-MAC GATEWAY-MAC`.

Lines on stdin are SOURCE,DESTINATION,PORT: a UDP datagram from that address and port. Prints the CPU seconds that
COUNT frames took. Frames go out by packet sockets, several with one call and without segmentation offload: everything
up to the far end of the gateway is done on this core, in the name of this process.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import sys
import time

BATCH = 64


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class _MsgHdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _MMsgHdr(ctypes.Structure):
    _fields_ = [("header", _MsgHdr), ("length", ctypes.c_uint)]


def frame(line: str, size: int, source_mac: bytes, target_mac: bytes) -> bytes:
    """Return a frame without FCS; `size` counts it."""
    source, destination, port = line.split(",")
    length = size - 4 - 14
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0)
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    total = sum(struct.unpack("!10H", head + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    head = head[:10] + struct.pack("!H", checksum)
    udp = struct.pack("!HHHH", int(port), 40_000, length - 20, 0)
    return target_mac + source_mac + b"\x08\x00" + head + addresses + udp + bytes(length - 28)


def main() -> None:
    """Send."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    interface, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    own, gateway = bytes.fromhex(sys.argv[4]), bytes.fromhex(sys.argv[5])
    frames = [frame(line, size, own, gateway) for line in sys.stdin.read().split()]
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packet:
        packet.bind((interface, 0))
        batches = []
        for start in range(0, len(frames), BATCH):
            part = frames[start : start + BATCH]
            vector = (_MMsgHdr * len(part))()
            for i, octets in enumerate(part):
                iov = _IoVec(octets, len(octets))
                vector[i].header.iov = ctypes.pointer(iov)
                vector[i].header.iov_length = 1
            batches.append((vector, len(part)))
        sent = 0
        begun = time.process_time()
        while sent < count:
            for vector, length in batches:
                done = libc.sendmmsg(packet.fileno(), vector, length, 0)
                if done < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                sent += done
        print(time.process_time() - begun, sent)


if __name__ == "__main__":
    main()
