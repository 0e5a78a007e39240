"""The control commands that change something besides programs: flags, cancels, resets.

Each runs once, through the `Inbox`, and stores its outcome together with the change.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from worker.errors import NotPermittedError
from worker.flags import Flags, read_flag
from worker.inbox import Inbox, Run
from worker.message import Job, named_job
from worker.settings import PREFIX, Settings
from worker.standing import Standing
from worker.store import Cancellation, Store, StoredOutcome, steadily
from worker.tally import Tally

log = structlog.get_logger()


class Controls:
    """Commands for operators, and for callers that changed their mind.

    Args:
        store: Flags, cancel marks and programs.
        settings: Start values of flags, and what is permitted.
        inbox: Stores outcomes, and stops what runs here.
        tally: Counts that ``reset_state`` resets.
    """

    def __init__(self, store: Store, settings: Settings, *, inbox: Inbox, tally: Tally) -> None:
        self._store = store
        self._settings = settings
        self._inbox = inbox
        self._tally = tally
        self.once: dict[str, Run] = {
            "set_flag": self.set_flag,
            "cancel": self.cancel,
            "cleanup": self.cleanup,
            "reset_state": self.reset_state,
        }

    async def set_flag(self, job: Job, standing: Standing) -> StoredOutcome:
        """Set a flag for all workers at once, and so for all tenants: only the operator may, where there are some.

        Raises:
            NotPermittedError: A tenant asks.
        """
        name, value = read_order(job, self._settings)

        def answer(before: dict[str, str]) -> StoredOutcome:
            flags = Flags.of(self._settings, before | {name: value}).to_json()
            previous = Flags.of(self._settings, before).to_json()[name]
            return self._inbox.success(job, {"name": name, "value": flags[name], "previous": previous})

        holding = self._inbox.holding(standing)
        stored = await steadily(lambda: self._store.set_flag(name, value, holding=holding, answer=answer))
        log.warning("flag.set", name=name, value=value, user=job.delivery.user_id)
        return stored

    async def cancel(self, job: Job, standing: Standing) -> StoredOutcome:
        """Cancel a job by its message id: it does not start, and stops where it runs.

        One that runs in another worker is stopped there, when that looks for marks the next time.
        """
        message_id = named_job(job)

        def answer(became: Cancellation) -> StoredOutcome:
            return self._inbox.success(job, {"message_id": message_id, "status": became.value})

        holding = self._inbox.holding(standing)
        stored = await steadily(lambda: self._store.cancel(message_id, holding=holding, answer=answer))
        await steadily(self._inbox.stop_cancelled)
        return stored

    async def cleanup(self, job: Job, standing: Standing) -> StoredOutcome:
        """Delete all programs of the tenant."""

        def answer(removed: int) -> StoredOutcome:
            return self._inbox.success(job, {"status": "cleaned", "programs_removed": removed})

        return await self._delete_programs(standing, answer)

    async def reset_state(self, job: Job, standing: Standing) -> StoredOutcome:
        """Delete all programs of the tenant, and begin to count this worker's commands and errors anew.

        The counts are those of all tenants, so only the operator learns of them and resets them, where there are some.
        """
        counted = self._tally if is_operator(job, self._settings) else Tally()
        counts = {"commands_reset": counted.commands, "errors_reset": counted.errors}

        def answer(cleared: int) -> StoredOutcome:
            return self._inbox.success(job, {"status": "reset", "programs_cleared": cleared, **counts})

        stored = await self._delete_programs(standing, answer)
        counted.reset()
        return stored

    async def _delete_programs(self, standing: Standing, answer: Callable[[int], StoredOutcome]) -> StoredOutcome:
        check_reset(self._settings)
        holding = self._inbox.holding(standing)
        return await steadily(lambda: self._store.delete_programs(holding=holding, answer=answer))


def is_operator(job: Job, settings: Settings) -> bool:
    """Tell whether a job's sender speaks for the deployment: everybody, where there are no tenants."""
    return settings.tenancy == "off" or job.tenant in settings.operators


def read_order(job: Job, settings: Settings) -> tuple[str, str]:
    """Return the flag and the value that a job wants set.

    Raises:
        NotPermittedError: A tenant asks.
        InvalidRequestError: There is no such flag, or no such value.
    """
    if not is_operator(job, settings):
        raise NotPermittedError(f"Flags hold for every tenant; only the users in {PREFIX}TRUSTED_USERS may set them")
    return read_flag(job.args.get("name"), job.args.get("value"))


def check_list(job: Job, settings: Settings) -> None:
    """Refuse to tell a tenant about the workers of all.

    Raises:
        NotPermittedError: A tenant asks.
    """
    if not is_operator(job, settings):
        raise NotPermittedError(f"Only the users in {PREFIX}TRUSTED_USERS may list the workers")


def check_reset(settings: Settings) -> None:
    """Refuse to delete all programs at once where that is not allowed.

    Raises:
        NotPermittedError: It is not.
    """
    if not settings.allow_reset:
        raise NotPermittedError(f"Programs are deleted all at once only by workers with {PREFIX}ALLOW_RESET=true")
