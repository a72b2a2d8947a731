"""An S3 server in memory, so that the server is not what is measured: `python -m tests.bench.engine.memory_s3`.

It prints its port, speaks what the engine and its peers need (objects, ranges, conditions, listing, multipart uploads,
deletion of many), takes any signature, and counts requests by the class in which R2 bills them (A: writes and lists,
B: reads). `GET /-/counters` reads the counters and sets them to zero.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import json
import time
from collections import Counter
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Answer = tuple[int, dict[str, str], bytes]
XML = {"Content-Type": "application/xml"}
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 404: "Not Found", 412: "Precondition Failed"}


class Bucket:
    """All objects of all buckets, by `bucket/key`."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str, float, dict[str, str]]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.counters: Counter[str] = Counter()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """One request."""
        parts = urlsplit(target)
        path = unquote(parts.path).lstrip("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if path == "-/counters":
            told, self.counters = dict(self.counters), Counter()
            return 200, {}, json.dumps(told).encode()
        if "aws-chunked" in headers.get("content-encoding", "") or headers.get("x-amz-content-sha256", "").startswith(
            "STREAMING"
        ):
            body = _unchunk(body)
        self.counters[
            "A" if method in ("PUT", "POST") or "list-type" in query else "B" if method != "DELETE" else "free"
        ] += 1
        self.counters["up"] += len(body)
        answer = self._route(method, path, query, headers, body)
        if method == "GET":
            self.counters["down"] += len(answer[2])
        return answer

    def _route(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        bucket, _, key = path.partition("/")
        if not key:
            return self._bucket(method, bucket, query, body)
        if "uploads" in query or "uploadId" in query:
            return self._multipart(method, path, query, body)
        if method == "PUT":
            return self._put(path, headers, body)
        if method == "DELETE":
            self.objects.pop(path, None)
            return 204, {}, b""
        return self._get(path, headers)

    def _put(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        known = self.objects.get(path)
        if "if-none-match" in headers and known is not None:
            return _error(412, "PreconditionFailed")
        if "if-match" in headers and (known is None or known[1] != headers["if-match"]):
            return _error(412, "PreconditionFailed")
        if "x-amz-copy-source" in headers:
            body = self.objects[unquote(headers["x-amz-copy-source"]).lstrip("/")][0]
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        meta = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        self.objects[path] = (body, etag, time.time(), meta)
        if "x-amz-copy-source" in headers:
            return 200, XML, f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>".encode()
        return 200, {"ETag": etag}, b""

    def _get(self, path: str, headers: dict[str, str]) -> Answer:
        known = self.objects.get(path)
        if known is None:
            return _error(404, "NoSuchKey")
        data, etag, modified, meta = known
        told = {"ETag": etag, "Last-Modified": email.utils.formatdate(modified, usegmt=True), "Accept-Ranges": "bytes"}
        told |= {"Content-Type": "application/octet-stream", **meta}
        asked = headers.get("range", "")
        if not asked.startswith("bytes="):
            return 200, told, data
        first, _, last = asked[6:].partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last) + 1 if last and first else len(data), len(data))
        return 206, {**told, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end]

    def _bucket(self, method: str, bucket: str, query: dict[str, str], body: bytes) -> Answer:
        if method == "POST" and "delete" in query:
            for part in body.decode().split("<Key>")[1:]:
                self.objects.pop(f"{bucket}/{part.partition('</Key>')[0]}", None)
            return 200, XML, b"<DeleteResult></DeleteResult>"
        if "location" in query:
            return 200, XML, b"<LocationConstraint></LocationConstraint>"
        if method == "GET":
            return self._list(bucket, query)
        return 200, {}, b""

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker") or ""
        limit = int(query.get("max-keys", "1000"))
        rows: list[str] = []
        common: set[str] = set()
        last = ""
        more = False
        for path in sorted(path for path in self.objects if path.startswith(f"{bucket}/{prefix}")):
            key = path[len(bucket) + 1 :]
            if key <= after:
                continue
            if len(rows) + len(common) >= limit:
                more = True
                break
            last = key
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            data, etag, modified, _ = self.objects[path]
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(modified))
            rows.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{stamp}</LastModified><ETag>{escape(etag)}</ETag>"
                f"<Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        folders = "".join(f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in sorted(common))
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken><NextMarker>{escape(last)}</NextMarker>"
        return (
            200,
            XML,
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(rows)}</KeyCount>"
            f"<MaxKeys>{limit}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{token if more else ''}"
            f"{''.join(rows)}{folders}</ListBucketResult>".encode(),
        )

    def _multipart(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        if "uploads" in query:
            number = f"upload{len(self.uploads)}"
            self.uploads[number] = {}
            key = path.partition("/")[2]
            text = f"<Key>{escape(key)}</Key><UploadId>{number}</UploadId>"
            return 200, XML, f"<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>".encode()
        parts = self.uploads.setdefault(query["uploadId"], {})
        if method == "PUT":
            parts[int(query["partNumber"])] = body
            return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
        if method == "POST":
            data = b"".join(parts[number] for number in sorted(parts))
            etag = f'"{hashlib.md5(data).hexdigest()}-{len(parts)}"'
            self.objects[path] = (data, etag, time.time(), {})
            text = f"<ETag>{escape(etag)}</ETag>"
            return 200, XML, f"<CompleteMultipartUploadResult>{text}</CompleteMultipartUploadResult>".encode()
        self.uploads.pop(query["uploadId"], None)
        return 204, {}, b""


def _error(status: int, code: str) -> Answer:
    return status, XML, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _unchunk(body: bytes) -> bytes:
    out = bytearray()
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return bytes(out)
        out += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


async def _serve(bucket: Bucket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ", 2)
            headers = {}
            for line in lines:
                name, separator, value = line.partition(":")
                if separator:
                    headers[name.strip().lower()] = value.strip()
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await _body(reader, headers)
            status, told, data = bucket.answer(method, target, headers, body)
            told = {"Content-Length": str(len(data)), "x-amz-request-id": "0", **told}
            lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'X')}", *(f"{k}: {v}" for k, v in told.items())]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if method == "HEAD" else data))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding", "") != "chunked":
        return b""
    out = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        out += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return bytes(out)


async def main() -> None:
    """Serve until standard input ends."""
    bucket = Bucket()
    server = await asyncio.start_server(
        lambda reader, writer: _serve(bucket, reader, writer), "127.0.0.1", 0, limit=1 << 22
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(input_ended)
    server.close()


def input_ended() -> None:
    """Whoever started this is gone, or is done."""
    import sys

    sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main())
