"""The short form of ``make fuzz``."""

from __future__ import annotations

import pytest

from tests.fuzz.cases import make_case
from tests.fuzz.run import handle_all

BODIES = 2_000
SEED = 20_261_123


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_any_body_ends_in_an_outcome_with_a_known_code() -> None:
    """Nothing that a sender can write raises, or ends as a bug of ours."""
    run = await handle_all(make_case(SEED, number) for number in range(BODIES))

    assert len(run.codes) > 15, "the cases do not reach far enough"
    assert [(case.number, fault) for case, fault in run.faults] == []
