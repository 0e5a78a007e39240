"""What a job costs: the figures of docs/PERFORMANCE.md, measured against a real broker by ``make bench``.

Nothing here asserts a time. Ratios are taken by alternating in one run, and CPU is that of the measured process only: the
load generator, the LM stub and the broker are processes of their own.
"""
