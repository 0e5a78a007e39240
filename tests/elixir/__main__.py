"""``python -m tests.elixir``: format, compile and test both Mix projects; ``make test-elixir`` runs it.

Arguments go to ``mix test`` of the client, which is then the only step: ``ARGS="test/integration --trace"``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from remove_namespace import DEFAULT_DELAYS_MS, remove_namespace

from tests.elixir.mix import STEPS, TESTS, MissingError, fresh_namespace, mix_environment, run, workers

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the steps; return the exit code: 1 where one of them failed."""
    url = os.environ.get("DSPEX_AMQP_URL")
    if url is None:
        print("DSPEX_AMQP_URL is not set; `make test-elixir` starts a broker and sets it.", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_run_all(url, sys.argv[1:]))
    except MissingError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


async def _run_all(url: str, more: list[str]) -> int:
    namespace = fresh_namespace()
    environment = mix_environment(amqp_url=url, namespace=namespace)
    failed = []
    try:
        with tempfile.TemporaryDirectory(prefix="dspex-elixir-") as folder:
            async with workers(url, namespace, Path(folder)):
                for step in [TESTS] if more else STEPS:
                    print(f"› {step.name}: mix {' '.join([step.arguments[0], *more])}", flush=True)
                    if await run(step, environment=environment, more=more) != 0:
                        failed.append(step.name)
    finally:
        await remove_namespace(url, namespace, delays_ms=DEFAULT_DELAYS_MS)
    print(f"✗ failed: {', '.join(failed)}" if failed else "✓ the Elixir client and its compat project are in order")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
