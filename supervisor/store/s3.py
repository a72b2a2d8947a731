"""A bucket behind the S3 API (R2, AWS, Ceph RGW and others), through s3fs.

One call here is one request on the wire, so that a caller's deadline, the metrics and the bill can be reasoned
about: s3fs's and botocore's own retries are off. One hidden repetition remains: aiohttp sends a PUT again when a
kept-alive connection turns out to be closed, so even the first 412 may be the echo of an own write;
`RetryingStore` reads back.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from supervisor.collector import collector_paused
from supervisor.errors import (
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from supervisor.store.credentials import Credentials, CredentialsProvider
from supervisor.store.keys import MAX_KEY_BYTES, check_key, check_prefix, check_range, check_size, key_problem
from supervisor.store.protocol import ObjectInfo, StoredObject
from supervisor.store.s3_errors import answer_of, translated

_CONNECTIONS = 32
_DELETES_AT_ONCE = 16
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 20.0


class S3Store:
    """Objects below a prefix of a bucket. Nothing is imported or connected before the first operation.

    Args:
        bucket: the bucket's name; the bucket has to exist.
        prefix: goes before every key, with a slash between; may be empty.
        credentials: asked for each request; when there are others, the client is made anew.
        endpoint_url: the server; empty for AWS itself.
        region: `auto` suits R2 and most others; AWS wants the bucket's.
        page_size: objects asked for in one request of a listing, at most 1000.
        silence_seconds: how long the server may keep silent within an answer.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        credentials: CredentialsProvider,
        endpoint_url: str = "",
        region: str = "auto",
        page_size: int = 1000,
        silence_seconds: float = _SILENCE_SECONDS,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._region = region
        self._credentials = credentials
        self._used: Credentials | None = None
        self._retired: Any = None
        self._page_size = page_size
        self._silence_seconds = silence_seconds
        self._opening = asyncio.Lock()
        self._filesystem: Any = None
        self._client: Any = None
        self._closed = False
        self._unquoted_etags: bool | None = None

    def __repr__(self) -> str:
        return f"S3Store({self.url!r}, endpoint_url={self._endpoint_url!r})"

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def get(self, key: str, *, limit: int | None = None) -> StoredObject:
        answer, data = await self._download(key, limit)
        return StoredObject(data, self._field(answer, "ETag", key))

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        check_range(key, start, end)
        if start == end:  # HTTP has no empty range
            await self.stat(key)
            return b""
        try:
            answer, data = await self._download(key, None, Range=f"bytes={start}-{end - 1}")
        except StoreError as error:
            if answer_of(error).status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b""
            raise
        if "ContentRange" not in answer:  # a server that does not know ranges sends everything
            return data[start:end]
        sent = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer["ContentRange"])
        if sent is None or (int(sent[1]), int(sent[2])) != (start, min(end, int(sent[3])) - 1):
            asked = f"bytes {start}-{end - 1}"
            raise self._broken(f"the answer to {asked} was {answer['ContentRange']!r}", key)
        return data

    async def stat(self, key: str) -> ObjectInfo:
        try:
            answer = await self._on_object("head_object", "stat", key)
        except ObjectNotFound:
            # An answer to HEAD has no body, so its 404 does not tell a missing object from a missing bucket.
            answer, _ = await self._download(key, None)
        return ObjectInfo(
            key,
            self._field(answer, "ContentLength", key),
            self._field(answer, "ETag", key),
            self._field(answer, "LastModified", key).timestamp(),
        )

    async def put(self, key: str, data: bytes) -> str:
        return await self._upload(key, data)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        return await self._upload(key, data, IfNoneMatch="*")

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        """See `Store.replace`.

        Ceph RGW and DigitalOcean Spaces send quoted ETags and match only unquoted ones; R2 and AWS follow the
        RFC, and a server that cannot parse If-Match might ignore it. So the RFC's form goes first, and the
        other only after a 412 for an ETag that is still the object's.
        """
        if self._unquoted_etags:
            return await self._replace(key, data, etag.strip('"'))
        try:
            new = await self._replace(key, data, etag)
        except PreconditionFailed:
            if self._unquoted_etags is False or not await self._is_current(key, etag):
                raise
        else:
            self._unquoted_etags = False
            return new
        new = await self._replace(key, data, etag.strip('"'))
        self._unquoted_etags = True
        return new

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See `Store.list`. Keys that no store accepts are left out, such as `dir/`, by which consoles show an
        empty folder."""
        check_prefix(prefix)
        token: dict[str, str] = {}
        while True:
            page = await self._call(
                "list_objects_v2",
                "list",
                prefix,
                Prefix=self._prefix + prefix,
                MaxKeys=self._page_size,
                **token,
            )
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                if not key_problem(key):
                    yield ObjectInfo(key, entry["Size"], entry["ETag"], entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page.get("NextContinuationToken", "")}
            if following in (token, {"ContinuationToken": ""}):
                raise self._broken("a truncated listing names no next page", prefix)
            token = following

    async def delete(self, keys: Iterable[str]) -> None:
        """See `Store.delete`. One request a key: the batch request needs a checksum header that servers
        disagree about (Content-MD5 here, CRC32 there); single deletes cost nothing on R2."""
        pending = iter([check_key(key) for key in keys])

        async def worker() -> None:
            for key in pending:
                try:
                    await self._on_object("delete_object", "delete", key)
                except ObjectNotFound:  # older Ceph; others answer 204
                    continue

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_DELETES_AT_ONCE):
                    group.create_task(worker())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed.exceptions[0].__cause__

    async def close(self) -> None:
        self._closed = True
        clients, self._client, self._retired = (self._client, self._retired), None, None
        for client in clients:
            if client is not None:
                await client.close()

    async def _download(self, key: str, limit: int | None, **options: str) -> tuple[dict[str, Any], bytes]:
        answer = await self._on_object("get_object", "read", key, **options)
        length = self._field(answer, "ContentLength", key)
        try:
            async with answer["Body"] as stream:
                check_size(key, length, limit)  # leaving the stream unread closes its connection
                data: bytes = await stream.read()
        except ObjectTooLarge:
            raise
        except Exception as error:
            raise translated(error, self._described("read", key)) from error
        if len(data) != length:
            raise self._broken(f"the answer ended after {len(data)} of {length} bytes", key)
        return answer, data

    async def _upload(self, key: str, data: bytes, **conditions: str) -> str:
        # A stream, since aiohttp writes bytes in one piece and so would hold up the loop for a whole pack.
        answer = await self._on_object("put_object", "write", key, Body=io.BytesIO(data), **conditions)
        etag: str = self._field(answer, "ETag", key)
        return etag

    def _field(self, answer: Mapping[str, Any], name: str, key: str) -> Any:
        """A field of an answer; one without it comes from something else than an S3 server (a login page, a proxy)."""
        try:
            return answer[name]
        except KeyError:
            raise self._broken(f"the answer has no {name}", key) from None

    async def _replace(self, key: str, data: bytes, etag: str) -> str:
        try:
            return await self._upload(key, data, IfMatch=etag)
        except ObjectNotFound as error:  # AWS answers 404 where the object is gone, R2 412
            raise PreconditionFailed(error.message, hint=error.hint) from error

    async def _is_current(self, key: str, etag: str) -> bool:
        try:
            answer = await self._on_object("head_object", "stat", key)
            return bool(self._field(answer, "ETag", key) == etag)
        except ObjectNotFound:
            return False

    async def _on_object(self, operation: str, verb: str, key: str, **arguments: Any) -> dict[str, Any]:
        full_key = self._prefix + check_key(key)
        if len(full_key.encode()) > MAX_KEY_BYTES:
            raise StoreError(f"object key {key[:100]!r} cannot be used: too long below {self.url}")
        return await self._call(operation, verb, key, Key=full_key, **arguments)

    async def _call(self, operation: str, verb: str, key: str, **arguments: Any) -> dict[str, Any]:
        try:
            filesystem = await self._connected()
            answer: dict[str, Any] = await filesystem._call_s3(operation, Bucket=self._bucket, **arguments)
        except StoreError:
            raise
        except Exception as error:
            told = translated(error, self._described(verb, key))
            if isinstance(told, StoreRefused):
                self._credentials.forget()
            raise told from error
        return answer

    async def _connected(self) -> Any:
        credentials = await self._credentials.get()
        if credentials is not self._used:
            async with self._opening:
                if self._closed:
                    raise StoreUnavailable(f"the store {self.url} is closed")
                if credentials is not self._used:
                    await self._open(credentials)
        return self._filesystem

    async def _open(self, credentials: Credentials) -> None:
        """A client with these credentials. The one before may be at work yet: it is closed when a third one comes,
        which is after the second one's credentials are nearly over."""
        filesystem = await asyncio.to_thread(self._make_filesystem, credentials)
        client = await filesystem.set_session()
        closing, self._retired = self._retired, self._client
        self._filesystem, self._client, self._used = filesystem, client, credentials
        if closing is not None:
            await closing.close()

    def _make_filesystem(self, credentials: Credentials) -> Any:
        with collector_paused():
            import s3fs  # takes half a second: after the port is bound, and off the loop

        filesystem = s3fs.S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
            key=credentials.access_key_id,
            secret=credentials.secret_access_key,
            token=credentials.session_token or None,
            endpoint_url=self._endpoint_url or None,
            client_kwargs={"region_name": self._signing_region()},
            config_kwargs={
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": self._silence_seconds,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": _CONNECTIONS,
                # R2 refuses the CRC32 trailers that botocore sends by default, sometimes as "Unauthorized".
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                "s3": {"addressing_style": "path" if self._endpoint_url else "auto"},
                "ignore_configured_endpoint_urls": True,
                "warm_up_loader_caches": True,  # reads botocore's 1 MB of JSON models in a thread
            },
        )
        filesystem.retries = 1
        return filesystem

    def _signing_region(self) -> str:
        # AWS has no region "auto"; us-east-1 redirects to the bucket's own.
        return "us-east-1" if self._region == "auto" and not self._endpoint_url else self._region

    def _described(self, verb: str, key: str) -> str:
        return f"{verb} s3://{self._bucket}/{self._prefix}{key} at {self._endpoint_url or 'AWS'}"

    def _broken(self, problem: str, key: str) -> StoreUnavailable:
        return StoreUnavailable(f"cannot {self._described('read', key)}: {problem}")
