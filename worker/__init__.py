"""Runs DSPy programs as RabbitMQ jobs: what was declared is what comes back, and nothing is paid twice."""
