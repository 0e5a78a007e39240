"""Read a delivery as a job, or refuse it: the first checks of every worker, and of whoever wants to know what they say."""

from __future__ import annotations

from worker.errors import InvalidRequestError, NotPermittedError, WorkerError
from worker.message import Delivery, Job, check_properties, check_reply_to, decode, parse
from worker.settings import Settings


def read_document(delivery: Delivery, settings: Settings) -> object:
    """Return the parsed body of a delivery that may be answered.

    Where the reply may go is checked first of all: whatever is refused after this is answered there.

    Args:
        delivery: As it came.
        settings: Reply queues, tenancy and the size of bodies.

    Raises:
        ReplyToNotAllowedError: Its reply may not go where it should; nobody is answered.
        NotPermittedError: Nobody's job, where there are tenants.
        InvalidRequestError: Properties that are too large, or that cannot be honoured.
        InvalidJSONError: The body is not the strict JSON that the contract asks for.
        BodyTooLargeError: It is too large.
    """
    _check_envelope(delivery, settings)
    try:
        return parse(delivery.body, max_bytes=settings.max_body_bytes)
    except WorkerError:
        # Of a body that cannot be read, the properties may tell why: they say that it is gzip.
        check_properties(delivery)
        raise


def read_job(document: object, delivery: Delivery, settings: Settings) -> Job:
    """Return the job of a delivery whose body `read_document` has read.

    Raises:
        InvalidRequestError: Properties that cannot be honoured, or not the shape of a request.
    """
    check_properties(delivery)
    return decode(document, delivery, tenant=tenant_of(delivery, settings))


def tenant_of(delivery: Delivery, settings: Settings) -> str:
    """Return whose job it is: the broker has checked the user; empty where all are one trust domain."""
    return delivery.user_id or "" if settings.tenancy == "user_id" else ""


def _check_envelope(delivery: Delivery, settings: Settings) -> None:
    check_reply_to(
        delivery.reply_to,
        namespace=settings.namespace,
        pattern=settings.effective_reply_to_pattern,
        tenant=None if settings.tenancy == "off" else tenant_of(delivery, settings),
    )
    if settings.tenancy == "user_id" and not delivery.user_id:
        raise NotPermittedError("This deployment needs the user_id property, which tells tenants apart")
    if delivery.is_oversized:
        raise InvalidRequestError("Properties and headers are larger than 64 KiB")
