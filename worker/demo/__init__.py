"""The demo: two workers, 200 jobs, a kill, a dead letter and its replay, on a real broker.

Start reading in `worker.demo.story`. Everything happens in a namespace and a temporary folder of its own; both are
removed at the end, whatever happens.
"""

from worker.demo.story import show

__all__ = ["show"]
