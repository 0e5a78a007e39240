"""Runs DSPy programs as RabbitMQ jobs: what was declared is what comes back, and nothing is paid twice."""

__version__ = "0.2.0"
