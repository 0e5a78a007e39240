"""The pages say what the code does: tables, examples and links."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import prometheus_client
import pytest
import typer.main
from prometheus_client.metrics import MetricWrapperBase

import worker.handler
import worker.store.inbox
from tests.support.left_hand import LeftHand, make_settings, open_left_hand
from tests.support.pages import ROOT, blocks, prose, quoted, read, still, table
from worker import telemetry
from worker.amqp.topology import Topology
from worker.cli import app
from worker.cli.serve import setting_rows
from worker.commands import Commands
from worker.errors import WorkerError
from worker.message import CreateArgs, Delivery, ExecuteArgs, Job, Options, decode, parse, read_args
from worker.questions import Questions
from worker.settings import PREFIX, RESERVED_PREFIX, Settings
from worker.signatures import is_legacy
from worker.signatures import parse as parse_signature

IGNORED = {".debian", ".venv", ".git", "__pycache__", "dist", "build", "htmlcov", "node_modules"}
PAGES = (
    "README.md",
    "docs/WIRE.md",
    "docs/DYNAMIC_SIGNATURES.md",
    "docs/PYTHON.md",
    "docs/RELIABILITY.md",
    "docs/METRICS.md",
    "docs/SECURITY.md",
    "docs/SETTINGS.md",
    "docs/COMMANDS.md",
    "docs/PERFORMANCE.md",
    "docs/OPERATIONS.md",
    "docs/ARCHITECTURE.md",
)
# Written in two parts, or this file would be the one that it finds.
REGISTRY_HOSTS = ["py" + "pi.org", "pythonhosted" + ".org", "registry.npm" + "js.org", "crates" + ".io", "hex" + ".pm"]


def docstring_table(module: object) -> list[list[str]]:
    """Return the rows of the first table of a module's docstring; a line without a first cell goes on with the last."""
    lines = (inspect.getdoc(module) or "").splitlines()
    rules = [number for number, line in enumerate(lines) if re.fullmatch(r"=+( +=+)+", line)]
    starts = [found.start() for found in re.finditer("=+", lines[rules[0]])]
    rows: list[list[str]] = []
    for line in lines[rules[1] + 1 : rules[2]]:
        cells = [line[start:end].strip() for start, end in itertools.zip_longest(starts, starts[1:])]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [" ".join(filter(None, pair)) for pair in zip(rows[-1], cells, strict=True)]
    return rows


# Tables.


def test_the_settings_table_is_the_settings() -> None:
    """Name, default and description of each setting, in the order in which they are declared."""
    expected = [
        [f"`{name}`", default if default == "–" else f"`{default}`", text] for name, default, text in setting_rows()
    ]
    names = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]

    assert names == [name for name, _, _ in setting_rows()]
    assert expected == table("docs/SETTINGS.md", "Setting", "Default", "Meaning")


def test_the_command_table_is_the_commands() -> None:
    """Each command, and whether it runs once or is only answered."""
    once, answers = commands()
    expected = dict.fromkeys(once, "yes") | dict.fromkeys(answers, "no")
    rows = table("docs/COMMANDS.md", "Command", "Runs once", "What it does")

    assert expected == {name: is_once for [name], is_once in ((quoted(row[0]), row[1]) for row in rows)}


def test_each_command_is_explained_on_the_wire_page() -> None:
    """Create and execute have sections of their own, the others a table."""
    once, answers = commands()
    others = {name for row in table("docs/WIRE.md", "Command", "Arguments", "Result") for name in quoted(row[0])}

    assert {*once, *answers} == others | {"create_program", "execute_program"}


def commands() -> tuple[set[str], set[str]]:
    nothing = cast("Any", None)
    done = Commands(nothing, nothing, programs=nothing, runner=nothing, inbox=nothing)
    questions = Questions(nothing, nothing, lms=nothing, commands=done, worker_id="")
    return set(done.once), set(questions.answers)


def test_the_command_line_table_is_the_command_line() -> None:
    """Each command with the first sentence of its help."""
    expected = dict(walk(typer.main.get_command(app), "dspex-worker"))
    rows = table("docs/COMMANDS.md", "Command", "What it does")

    assert expected == {name: text for [name], text in ((quoted(row[0]), row[1]) for row in rows)}


def walk(command: Any, name: str) -> Iterator[tuple[str, str]]:
    if hasattr(command, "commands"):
        if command.invoke_without_command and " " in name:
            yield name, summary(command)
        for child, below in command.commands.items():
            yield from walk(below, f"{name} {child}")
    else:
        yield name, summary(command)


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return " ".join(click.unstyle(command.help or "").split("\n\n")[0].split())


def test_the_settlement_table_is_that_of_the_handler() -> None:
    """What happened, codes, reply and settlement are the same in the code and on the page."""
    rows = table("docs/WIRE.md", "What happened", "Code", "Reply", "Settlement")

    assert docstring_table(worker.handler) == [[cell.replace("`", "") for cell in row] for row in rows]


def test_the_code_table_is_the_error_tree() -> None:
    """Code, recoverable, and what the error string starts with, for each class that ends a job."""
    expected = [
        [f"`{kind.code}`", str(kind.recoverable).lower(), f"`{kind.prefix}`" if kind.prefix else "–"]
        for kind in leaves(WorkerError)
    ]

    assert expected == [
        row[:3] for row in table("docs/WIRE.md", "Code", "`recoverable`", "`error` starts with", "When")
    ]


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """The docstring of worker/errors.py names each class with its code."""
    drawn = re.findall(
        r"─ (\w+Error) +([a-z_]+)$", inspect.getdoc(importlib.import_module("worker.errors")) or "", re.M
    )

    assert [(kind.__name__, kind.code) for kind in leaves(WorkerError)] == drawn


def leaves(kind: type[WorkerError]) -> Iterator[type[WorkerError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == "worker.errors"]
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


def test_the_metrics_table_is_that_of_telemetry() -> None:
    """The same rows on the page and in the docstring."""
    shown = table("docs/METRICS.md", "Metric", "Kind", "Labels", "Meaning")
    rows = [[cell.replace("`", "") for cell in row] for row in shown]
    expected = [[cell.replace("`", "") or "–" for cell in row] for row in docstring_table(telemetry)]

    assert expected == rows


def test_the_metrics_table_is_the_registry() -> None:
    """Name, kind and labels of each metric that exists, and no other one."""
    collectors = [value for value in vars(telemetry).values() if isinstance(value, MetricWrapperBase)]
    expected = [[full_name(each._name, each._type), each._type, ", ".join(each._labelnames)] for each in collectors]
    registered = {full_name(family.name, family.type) for family in prometheus_client.REGISTRY.collect()}

    assert {name for name in registered if name.startswith("dspex_")} == {row[0] for row in expected}
    assert expected == [row[:3] for row in docstring_table(telemetry)]


def full_name(name: str, kind: str | None) -> str:
    return f"{name}_total" if kind == "counter" else name


def test_the_state_table_is_that_of_the_store() -> None:
    """The states of an inbox row, as worker/store/inbox.py has them."""
    assert docstring_table(worker.store.inbox) == table("docs/RELIABILITY.md", "From", "Event", "To")


def test_the_queue_table_is_the_topology() -> None:
    """Each work queue is in the table, and each other queue is named on the page."""
    topology = Topology.of(namespace="dspex")
    names = {re.sub(r"\d+$", "<ms>", queue.name) for queue in topology.queues}
    rows = {
        name for row in table("docs/WIRE.md", "Queue", "For", "Command when none is given") for name in quoted(row[0])
    }

    assert rows == {name for name in names if name.count(".") == 1}
    assert names <= set(quoted(prose("docs/WIRE.md")))


def test_each_test_of_the_fault_table_exists() -> None:
    """A fault that no test injects any more must not stand there."""
    rows = table("docs/RELIABILITY.md", "Fault", "Expected", "Tests")
    named = [quoted(tests) for _, _, tests in rows]

    assert [row[0] for row, tests in zip(rows, named, strict=True) if not tests] == []
    assert [test for tests in named for test in tests if not is_test(test)] == []


def is_test(name: str) -> bool:
    """Tell whether ``file.py`` or ``file.py::test`` is below tests."""
    file, _, test = name.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and (not test or f"def {test}(" in path.read_text(encoding="utf-8"))


def test_the_argument_tables_are_the_models() -> None:
    """Arguments of create and execute, and the options, none too many and none missing."""
    page = "docs/WIRE.md"
    create, execute = (
        {name for row in rows for name in quoted(row[0])}
        for rows in (table_below(page, "create_program"), table_below(page, "execute_program"))
    )
    options = {name for row in table(page, "Option", "Meaning") for name in quoted(row[0])}

    assert set(CreateArgs.model_fields) == create
    assert set(ExecuteArgs.model_fields) == execute
    assert set(Options.model_fields) == options


def table_below(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table of arguments below a heading."""
    text = read(page).split(f"\n## {heading}\n", 1)[1]
    rows = itertools.takewhile(lambda line: line.startswith("|"), text[text.index("| Argument |") :].splitlines()[2:])
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


# Examples.


@pytest.mark.parametrize("page", PAGES)
def test_each_json_example_is_what_it_says(page: str) -> None:
    """A definition parses without a warning, a request decodes without an unknown argument, the rest are replies."""
    for block in blocks(page, "json"):
        document = parse(block.encode(), max_bytes=len(block.encode()))
        if "inputs" in document and "outputs" in document:
            assert parse_signature(document).warnings == ()
        elif "success" not in document:
            check_request(decode(document, delivery(block, number=0)))


def check_request(job: Job) -> None:
    models: dict[str, type[CreateArgs] | type[ExecuteArgs]] = {
        "create_program": CreateArgs,
        "execute_program": ExecuteArgs,
    }
    if job.command in models:
        assert read_args(models[job.command], job.args)[1] == []


def test_no_two_pages_create_the_same_program() -> None:
    """Who follows one page after the other on the same workers never meets `program_exists`."""
    created = {page: created_programs(page) for page in PAGES}
    everything = [name for names in created.values() for name in names]

    assert {"greeting", "topic", "sentiment", "review"} <= set(everything)
    assert len(set(everything)) == len(everything), created


def created_programs(page: str) -> set[str]:
    """Return the ids of the programs that a page's examples create, in JSON, in Python and in a shell."""
    python = "\n".join(blocks(page, "python"))
    shell = "\n".join(blocks(page, "sh"))
    arguments = [json.loads(text) for text in re.findall("call create_program --args '(.*)'", shell)]
    messages = [json.loads(block) for block in blocks(page, "json")]
    arguments += [each["args"] for each in messages if each.get("command") == "create_program"]
    return {
        *re.findall(r'create_program\(.*\bid="([^"]+)"', python),
        *(each["id"] for each in arguments if "id" in each),
    }


@pytest.mark.parametrize("page", PAGES)
async def test_each_reply_shown_is_what_a_worker_answers(page: str, tmp_path: Path) -> None:
    """The requests of a page, sent in their order to a worker with the offline LM, are answered as the page shows."""
    shown = blocks(page, "json")
    async with open_left_hand(tmp_path) as left_hand:
        for number, (block, after) in enumerate(itertools.pairwise([*shown, "{}"])):
            if not is_request(block):
                assert "success" not in json.loads(after), f"a reply without its request: {after}"
                continue
            outcome = await left_hand.handler.handle(delivery(block, number=number))
            assert outcome.reply is not None
            if "success" in json.loads(after):
                assert still(json.loads(after)) == still(json.loads(outcome.reply.body))


def is_request(block: str) -> bool:
    document = json.loads(block)
    return "success" not in document and not {"inputs", "outputs"} <= set(document)


def delivery(block: str, *, number: int) -> Delivery:
    return Delivery("execute", block.encode(), reply_to="replies", correlation_id=f"c{number}")


async def test_each_answer_has_the_keys_that_the_table_names(tmp_path: Path) -> None:
    """The commands other than create and execute return exactly the members in their row."""
    rows = table("docs/WIRE.md", "Command", "Arguments", "Result")[::-1]
    async with open_left_hand(tmp_path, make_settings(allow_reset="true")) as left_hand:
        plain = {name: await answered(left_hand, name) for name in ("create_program", "execute_program")}
        members = {name: await answered(left_hand, name) for row in rows for name in quoted(row[0])}

    for row in rows:
        shown = quoted(row[2])
        expected = [*plain[shown[0]], *shown[1:]] if shown[0] in plain else shown
        assert [members[name] for name in quoted(row[0])] == [expected] * len(quoted(row[0])), row[0]


async def answered(left_hand: LeftHand, command: str) -> list[str]:
    """Return the members of a command's result, or the code of its refusal."""
    args = {"id": "p", "program_id": "p", "message_id": "m", "signature": "a -> b", "inputs": {"a": "x"}}
    args |= {"name": "dynamic_signatures", "value": "on", "model": "default"}
    body = json.dumps({"command": command, "args": args})
    outcome = await left_hand.handler.handle(delivery(body, number=0))
    assert outcome.reply is not None
    reply = json.loads(outcome.reply.body)
    return list(reply["result"]) if reply["success"] else [reply["error_detail"]["code"]]


@pytest.mark.parametrize("page", PAGES)
def test_each_python_example_compiles_and_imports_what_exists(page: str) -> None:
    """No example names something that is not there."""
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_each_command_shown_exists(page: str) -> None:
    """`make` targets are in the Makefile, subcommands in the command line."""
    code = "\n".join([*blocks(page, ""), *blocks(page, "sh"), *quoted(prose(page))])
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    known = {name.split()[1] for name, _ in walk(typer.main.get_command(app), "dspex-worker")}

    assert set(re.findall(r"^make ([a-z]+)", code, flags=re.MULTILINE)) <= targets
    assert set(re.findall(r"\bdspex-worker ([a-z]+)", code)) <= known


def test_the_legacy_string_is_the_one_that_the_page_names() -> None:
    """The page's own spelling of the legacy program is taken for it."""
    text = "question -> answer"

    assert f"the string `{text}`" in read("docs/WIRE.md")
    assert is_legacy(text)


# Links.


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
)
def test_each_link_leads_somewhere(page: str) -> None:
    """Relative links name files, and their anchors headings."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_every_page() -> None:
    """No page of `docs/` can only be found by those who list the folder."""
    pages = {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")}

    assert pages <= {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", prose("README.md"))}


def anchors(page: Path) -> set[str]:
    """Return the anchors that headings get: small letters, no marks, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "docker-compose.yml", "deploy/compose.env.example", "deploy/Dockerfile"])
def test_each_setting_named_exists(page: str) -> None:
    """No page and no file of `deploy/` names a setting that the worker would refuse to start with."""
    names = set(re.findall(r"\bDSPEX_[A-Z][A-Z_]*[A-Z]\b", read(page)))
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    passwords = {"DSPEX_BROKER_PASSWORD", "DSPEX_STORE_PASSWORD"}

    assert {name for name in names if not name.startswith(RESERVED_PREFIX)} <= known | passwords


def test_the_architecture_page_names_modules_that_exist() -> None:
    """Each path is below `worker/`, and each module of the package has its line."""
    paths = {path for path in quoted(prose("docs/ARCHITECTURE.md")) if re.fullmatch(r"[a-z_/]+(\.py|/)", path)}
    modules = {path.name + "/" * path.is_dir() for path in (ROOT / "worker").iterdir() if path.name[0] != "_"}

    assert [path for path in paths if not (ROOT / "worker" / path).exists() and not (ROOT / path).exists()] == []
    assert modules - {"py.typed"} <= {
        row[0].strip("`") for row in table("docs/ARCHITECTURE.md", "Module", "Its one responsibility")
    }


def test_docstrings_name_sections_that_exist() -> None:
    """`docs/WIRE.md, "Settlement"` in a docstring is a heading of that page."""
    for path in ROOT.glob("worker/**/*.py"):
        for page, names in re.findall(r"((?:docs/)?[A-Z]+\.md)((?:(?:,| and) \"[^\"]+\")*)", path.read_text("utf-8")):
            assert (ROOT / page).exists(), f"{path}: {page}"
            missing = set(re.findall('"([^"]+)"', names)) - headings(page)
            assert not missing, f"{path}: {page} has no {missing}"


def headings(page: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", read(page), flags=re.MULTILINE))


def test_no_file_names_the_host_of_a_package_registry() -> None:
    """Lock files, docs and scripts install from whatever index the machine is set up for."""
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in project_files(ROOT)
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes()
    ]

    assert found == []


def project_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        is_ours = path.name not in IGNORED and not path.name.endswith("_cache") and not path.is_symlink()
        if path.is_dir() and is_ours:
            yield from project_files(path)
        elif path.is_file() and is_ours:
            yield path
