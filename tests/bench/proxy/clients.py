"""Clients as thin as can be, on blocking sockets: what they cost themselves is small beside what they measure."""

from __future__ import annotations

import os
import socket
import struct
import time

PIECE = b"x" * (256 * 1024)


def connect(port: int) -> socket.socket:
    """A connection without delays of its own."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(connection: socket.socket, request: bytes) -> float:
    """Seconds from a request to the whole of its small answer."""
    began = time.perf_counter()
    connection.sendall(request)
    got = b""
    while True:
        got += (piece := connection.recv(65536))
        head, mark, body = got.partition(b"\r\n\r\n")
        if not piece or (mark and len(body) >= _length(head)):
            break
    ended = time.perf_counter()
    if b" 200 " not in got[:16]:
        raise RuntimeError(f"unexpected answer: {got[:200]!r}")
    return ended - began


def upgrade(port: int) -> socket.socket:
    """A WebSocket at `/ws`."""
    connection = connect(port)
    connection.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += connection.recv(1)
    if b" 101 " not in got:
        raise RuntimeError(f"no upgrade: {got!r}")
    return connection


def echo(connection: socket.socket, size: int = 512) -> float:
    """Seconds from a message to its echo."""
    frame = struct.pack("!BBH4s", 0x82, 0x80 | 126, size, b"\0\0\0\0") + os.urandom(size)
    began = time.perf_counter()
    connection.sendall(frame)
    left = size + 4
    while left > 0:
        left -= len(connection.recv(left))
    return time.perf_counter() - began


def download(port: int, size: int) -> float:
    """Seconds for so many bytes down."""
    with connect(port) as connection:
        began = time.perf_counter()
        connection.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        got = 0
        buffer = bytearray(1 << 20)
        while received := connection.recv_into(buffer):
            got += received
        if got < size:
            raise RuntimeError(f"{got} of {size} bytes")
        return time.perf_counter() - began


def upload(port: int, size: int) -> float:
    """Seconds for so many bytes up."""
    with connect(port) as connection:
        began = time.perf_counter()
        connection.sendall(f"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // len(PIECE)):
            connection.sendall(PIECE)
        got = b""
        while b"}" not in got:
            got += connection.recv(65536)
        if str(size).encode() not in got:
            raise RuntimeError(f"unexpected answer: {got[:200]!r}")
        return time.perf_counter() - began


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
