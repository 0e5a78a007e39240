"""Arguments of the control commands: what a job names, and numbers."""

from __future__ import annotations

from worker.errors import InvalidRequestError
from worker.message.job import Job

# What both databases take as an offset.
_MAX_NUMBER = 2**63 - 1


def named_program(job: Job) -> str:
    """Return the ``program_id`` that a job names.

    Raises:
        InvalidRequestError: It names none.
    """
    return _name(job, "program_id", missing="Program ID is required")


def named_job(job: Job) -> str:
    """Return the ``message_id`` that a job's arguments name.

    Raises:
        InvalidRequestError: They name none.
    """
    return _name(job, "message_id", missing="message_id is required")


def read_number(job: Job, name: str, *, least: int, default: int) -> int:
    """Return a whole number among a job's arguments, or the default where it is absent.

    Raises:
        InvalidRequestError: It is none, or too small or too large.
    """
    value = job.args.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_NUMBER:
        raise InvalidRequestError(f"{name} must be a whole number of at least {least}", field=name)
    return value


def _name(job: Job, argument: str, *, missing: str) -> str:
    value = job.args.get(argument)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(missing, field=argument)
    return value
