"""The echo agent: keeps what it is told in SQLite and in JSONL.

`POST /say {"text"}` answers `{"n"}`, `GET /history` all that was said, the WebSocket `/ws` echoes, `/startupz` says
that it runs; `POST /count` answers how many bytes it got, `GET /bytes/N` sends N. `POST /remind {"seconds", "text"}`
says something to itself later, `POST /work {"seconds"}` keeps it busy, `GET /activity` tells of both. It takes its HOME
and port from the environment, and stops on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from aiohttp import WSMsgType, web

PIECE = b"moltinit" * 32768


class Conversation:
    """What was said, in two kinds of file: a database with a write-ahead log, and a file that grows at its end."""

    def __init__(self, home: Path) -> None:
        state = home / ".echo"
        state.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(state / "conversation.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS said (n INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        self._database.execute("CREATE TABLE IF NOT EXISTS reminders (due REAL NOT NULL, text TEXT NOT NULL)")
        self._journal = state / "conversation.jsonl"

    def say(self, text: str) -> int:
        """Keep it; returns its number."""
        number = self._database.execute("INSERT INTO said(text) VALUES (?)", (text,)).lastrowid or 0
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps({"n": number, "text": text}) + "\n")
        return number

    def history(self) -> list[str]:
        """All that was said, oldest first."""
        return [text for (text,) in self._database.execute("SELECT text FROM said ORDER BY n")]

    def remind(self, due: float, text: str) -> None:
        """Say it at `due`, seconds since 1970; in the next life where this one is over by then."""
        self._database.execute("INSERT INTO reminders VALUES (?, ?)", (due, text))

    def next_reminder(self) -> float | None:
        """When the next one is due."""
        due: float | None = self._database.execute("SELECT min(due) FROM reminders").fetchone()[0]
        return due

    def say_what_is_due(self, now: float) -> None:
        """Each reminder once."""
        for number, text in self._database.execute(
            "SELECT rowid, text FROM reminders WHERE due <= ?", (now,)
        ).fetchall():
            self.say(text)
            self._database.execute("DELETE FROM reminders WHERE rowid = ?", (number,))

    def close(self) -> None:
        """Fold the log into the database."""
        self._database.close()


def application(conversation: Conversation) -> web.Application:
    """The agent's HTTP server."""
    app = web.Application()
    busy_until = 0.0

    async def remind(request: web.Request) -> web.Response:
        document = await request.json()
        conversation.remind(time.time() + float(document["seconds"]), str(document["text"]))
        return web.json_response({"next_wake": conversation.next_reminder()})

    async def work(request: web.Request) -> web.Response:
        nonlocal busy_until
        busy_until = time.monotonic() + float((await request.json())["seconds"])
        return web.json_response({})

    async def activity(request: web.Request) -> web.Response:
        doing = ["work"] if time.monotonic() < busy_until else []
        return web.json_response({"doing": doing, "next_wake": conversation.next_reminder()})

    async def say(request: web.Request) -> web.Response:
        return web.json_response({"n": conversation.say(str((await request.json())["text"]))})

    async def history(request: web.Request) -> web.Response:
        return web.json_response({"history": conversation.history()})

    async def startupz(request: web.Request) -> web.Response:
        return web.json_response({"status": "started"})

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>echo</title><h1>echo</h1>", content_type="text/html")

    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            if message.type is WSMsgType.TEXT:
                await answer.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await answer.send_bytes(message.data)
        return answer

    async def count(request: web.Request) -> web.Response:
        received = 0
        async for piece in request.content.iter_any():
            received += len(piece)
        return web.json_response({"bytes": received})

    async def send(request: web.Request) -> web.StreamResponse:
        left = int(request.match_info["n"])
        answer = web.StreamResponse(headers={"Content-Length": str(left)})
        await answer.prepare(request)
        while left > 0:
            piece = PIECE[:left]
            await answer.write(piece)
            left -= len(piece)
        return answer

    app.add_routes(
        [
            web.get("/", page),
            web.post("/say", say),
            web.get("/history", history),
            web.get("/startupz", startupz),
            web.get("/activity", activity),
            web.post("/remind", remind),
            web.post("/work", work),
            web.get("/ws", socket),
            web.post("/count", count),
            web.get("/bytes/{n:[0-9]+}", send),
        ]
    )
    return app


async def serve(home: Path, port: int) -> None:
    """Until SIGTERM."""
    conversation = Conversation(home)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(conversation), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    while not stop.is_set():
        conversation.say_what_is_due(time.time())
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.5)
    await runner.cleanup()
    conversation.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(os.environ["HOME"]), int(os.environ["ECHO_PORT"])))
