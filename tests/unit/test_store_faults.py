"""Which faults of an engine are waited for, and which end a start."""

from __future__ import annotations

import pytest

from worker.store.availability import StoreMisfitError
from worker.store.database.faults import unavailable


@pytest.mark.parametrize(
    ("error", "is_lasting"),
    [(TimeoutError(), False), (PermissionError(13, "Permission denied"), True), (NotADirectoryError(20, "No"), True)],
)
def test_only_what_waiting_does_not_mend_of_a_file_ends_a_start(error: OSError, is_lasting: bool) -> None:
    """A disk that stalls comes back."""
    assert isinstance(unavailable("sqlite:///x.db", error), StoreMisfitError) is is_lasting
