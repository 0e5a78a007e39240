"""The picture of a demo run in the README, ``docs/demo.svg``.

``make recording`` runs the demo and draws it; `tests/acceptance/test_demo.py` compares the picture with today's run.
"""
