"""The right hand: RabbitMQ.

Nothing here knows DSPy, the store or the handler; a `Consumer` is given a function from a `Delivery` to an `Outcome`.

See Also:
    docs/RELIABILITY.md: the topology and the facts about the libraries that shape this package.
"""
