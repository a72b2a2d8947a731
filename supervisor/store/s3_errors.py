"""What an S3 client's failure means: decided by the answer's error code and status, never by its text.

s3fs wraps botocore's `ClientError` into whichever `OSError` it thinks fits and keeps the original as the cause;
the answer is looked for along that chain.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

from supervisor.errors import (
    BucketNotFound,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)


class Answer(NamedTuple):
    """An error as the server put it; `status` is 0 where there was no answer."""

    code: str
    status: int


_KEYS = "Check the access key, its secret, and what they may do in this bucket."
_CLOCK = "The clock of this machine is wrong by minutes: set it, then try again."
_TOKEN = "The session token has ended: supply new credentials."
_REGION = "Check the region and the endpoint."
_UNSUPPORTED = "This server lacks an operation that moltinit needs; see docs/providers.md."
_BUCKET = "Create the bucket, or correct its name."
_NETWORK = "Check the endpoint and the network; moltinit tries again by itself."
_CERTIFICATE = "The endpoint's TLS certificate is not trusted here: check the endpoint and the CA certificates."

# Codes whose HTTP status says too little (AWS answers 400 for several) or needs a better hint.
_BY_CODE: dict[str, tuple[type[StoreError], str]] = {
    "NoSuchBucket": (BucketNotFound, _BUCKET),
    "InvalidBucketName": (BucketNotFound, _BUCKET),
    "NoSuchKey": (ObjectNotFound, ""),
    "PreconditionFailed": (PreconditionFailed, ""),
    "ConditionalRequestConflict": (StoreUnavailable, ""),
    "InvalidAccessKeyId": (StoreRefused, _KEYS),
    "SignatureDoesNotMatch": (StoreRefused, _KEYS),
    "InvalidToken": (StoreRefused, _TOKEN),
    "ExpiredToken": (StoreRefused, _TOKEN),
    "ExpiredTokenException": (StoreRefused, _TOKEN),
    "TokenRefreshRequired": (StoreRefused, _TOKEN),
    "RequestTimeTooSkewed": (StoreRefused, _CLOCK),
    "RequestExpired": (StoreRefused, _CLOCK),
    "AuthorizationHeaderMalformed": (StoreRefused, _REGION),
    "PermanentRedirect": (StoreRefused, _REGION),
    "IllegalLocationConstraintException": (StoreRefused, _REGION),
    "NotImplemented": (StoreRefused, _UNSUPPORTED),
    "RequestTimeout": (StoreUnavailable, ""),
    "SlowDown": (StoreUnavailable, ""),
}
_BY_STATUS: dict[int, tuple[type[StoreError], str]] = {
    HTTPStatus.UNAUTHORIZED: (StoreRefused, _KEYS),
    HTTPStatus.FORBIDDEN: (StoreRefused, _KEYS),
    HTTPStatus.NOT_FOUND: (ObjectNotFound, ""),
    HTTPStatus.PRECONDITION_FAILED: (PreconditionFailed, ""),
    HTTPStatus.NOT_IMPLEMENTED: (StoreRefused, _UNSUPPORTED),
}


def answer_of(error: BaseException) -> Answer:
    """The server's error answer behind an exception of s3fs or botocore."""
    link: BaseException | None = error
    while link is not None:
        response: Any = getattr(link, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code", ""))
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return Answer(code, int(status))
        link = link.__cause__
    return Answer("", 0)


def translated(error: Exception, what: str) -> StoreError:
    """The store error that a failure of the client library stands for.

    Args:
        error: what s3fs, aiobotocore or aiohttp raised.
        what: the failed work and where, as in "write s3://bucket/key at https://host".
    """
    answer = answer_of(error)
    if not answer.status:
        return _without_answer(error, what)
    kind, hint = _BY_CODE.get(answer.code) or _BY_STATUS.get(answer.status) or (StoreUnavailable, "")
    named = f"{answer.code}, " if answer.code and not answer.code.isdigit() else ""
    return kind(f"cannot {what}: {named}HTTP {answer.status}", hint=hint)


def _without_answer(error: Exception, what: str) -> StoreError:
    from botocore import exceptions

    detail = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    message = f"cannot {what}: {detail}"
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return StoreRefused(message, hint=_KEYS)
    if isinstance(error, RecursionError):
        # botocore follows a redirect that names no region for as long as there is one.
        return StoreRefused(f"cannot {what}: the server redirects to another region without end", hint=_REGION)
    if isinstance(error, exceptions.SSLError):
        return StoreUnavailable(message, hint=_CERTIFICATE)
    return StoreUnavailable(message, hint=_NETWORK)
