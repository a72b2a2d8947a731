"""A TCP proxy that holds every byte back for a while in each direction: `python -m tests.bench.engine.latency PORT MS`.

Bytes are delayed, not throttled: what is under way at the same time arrives at the same time.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

from tests.bench.engine.memory_s3 import input_ended

HIGH_WATER = 16 << 20
"""Bytes on their way in one direction before the sender is held up: what 100 MB/s and 150 ms hold."""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[float, bytes]] = deque()
    more, room = asyncio.Event(), asyncio.Event()
    size = 0

    async def receive() -> None:
        nonlocal size
        while True:
            try:
                data = await reader.read(1 << 18)
            except ConnectionError:
                data = b""
            waiting.append((loop.time() + seconds, data))
            size += len(data)
            more.set()
            if not data:
                return
            if size > HIGH_WATER:
                room.clear()
                await room.wait()

    receiving = asyncio.create_task(receive())
    try:
        while True:
            while not waiting:
                more.clear()
                await more.wait()
            due, data = waiting.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                break
            size -= len(data)
            room.set()
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        receiving.cancel()
        writer.close()


async def main(port: int, milliseconds: float) -> None:
    """Serve until standard input ends; `milliseconds` is the time of a round trip."""
    one_way = milliseconds / 2000

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        await asyncio.gather(_pump(reader, up_writer, one_way), _pump(up_reader, writer, one_way))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(input_ended)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
