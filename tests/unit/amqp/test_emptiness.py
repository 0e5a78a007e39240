"""When a queue was last known to be empty."""

from __future__ import annotations

from worker.amqp.emptiness import Emptiness


def test_an_idle_lane_knows_its_queue_empty_as_of_the_look_before() -> None:
    """What was published before that would be here by now."""
    emptiness = Emptiness()
    emptiness.begin(100)
    found = []
    for now in (500, 1_000, 1_500):
        emptiness.look(now, has_room=True)
        found.append(emptiness.known_ms)

    assert found == [100, 500, 1_000]


def test_a_lane_that_begins_with_a_backlog_knows_nothing() -> None:
    """Nor does it while messages come."""
    emptiness = Emptiness()
    emptiness.begin(None)
    for now in (500, 1_000, 1_500):
        emptiness.look(now, has_room=True)
        emptiness.note_delivery()

    assert emptiness.known_ms is None


def test_a_lane_without_a_free_place_learns_nothing() -> None:
    """The broker could not have sent what is in the queue."""
    emptiness = Emptiness()
    emptiness.begin(100)
    for now, has_room in ((500, True), (1_000, False), (1_500, True)):
        emptiness.look(now, has_room=has_room)

    assert emptiness.known_ms == 100


def test_a_loop_that_stood_still_makes_what_is_known_older_and_not_wrong() -> None:
    """What came meanwhile may not have been read yet: the last look before counts."""
    emptiness = Emptiness()
    emptiness.begin(100)
    emptiness.look(500, has_room=True)
    emptiness.look(60_500, has_room=True)

    assert emptiness.known_ms == 500


def test_a_lane_that_is_consumed_anew_forgets_what_it_knew() -> None:
    """There may be a backlog now that came while nobody consumed."""
    emptiness = Emptiness()
    emptiness.begin(100)
    emptiness.look(500, has_room=True)
    emptiness.begin(None)
    emptiness.look(1_000, has_room=True)

    assert emptiness.known_ms is None
