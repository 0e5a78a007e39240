"""Another Debian's packages: which mirror, which numbers, and one sentence where they cannot be had."""

from __future__ import annotations

import debian_root
import debian_suite
import pytest
from child_processes import ServiceError
from debian_root import TRIXIE, forky, release_with
from debian_suite import Suite, configured_mirrors

ONE_LINE = """\
deb [arch=amd64] http://first.example/debian bookworm main
deb http://first.example/debian bookworm-updates main
deb http://first.example/debian-security bookworm-security main
# deb http://commented.example/debian bookworm main
"""
STANZA = """\
Types: deb
URIs: https://second.example/debian/
Suites: bookworm bookworm-backports
Components: main
"""


@pytest.fixture
def apt_configuration(tmp_path, monkeypatch):
    """Have apt read its sources from the folder that is returned."""
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{folder}";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    return folder


def test_the_mirrors_are_those_of_the_machine_in_both_formats(apt_configuration):
    """Once each; those of security updates and the like hold no suite of their own."""
    (apt_configuration / "one.list").write_text(ONE_LINE)
    (apt_configuration / "two.sources").write_text(STANZA)

    assert sorted(configured_mirrors()) == ["http://first.example/debian", "https://second.example/debian"]


@pytest.mark.parametrize("mirrors", [[], ["file:///nowhere/debian"]])
def test_a_suite_that_no_mirror_gives_is_one_sentence(mirrors, tmp_path, monkeypatch):
    """Which suite, and what to do."""
    monkeypatch.setattr(debian_suite, "configured_mirrors", lambda: mirrors)
    with pytest.raises(ServiceError, match=r"^No mirror .* gives Debian trixie: name one in /etc/apt/sources.list.d"):
        Suite("trixie", folder=tmp_path)


def test_a_machine_without_apt_or_keyring_is_told_what_is_missing(tmp_path, monkeypatch):
    """One sentence each."""
    monkeypatch.setattr(debian_suite, "KEYRING", tmp_path / "keyring.gpg")
    with pytest.raises(ServiceError, match="apt-get install debian-archive-keyring"):
        Suite("trixie", folder=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="need apt-get and dpkg-deb; use a Debian machine"):
        Suite("trixie", folder=tmp_path)


def test_a_number_names_its_release():
    """4.0 is trixie's for good; forky has the others, one at a time."""
    assert release_with("4.0") is TRIXIE
    assert release_with("4.3") == forky("4.3")
    assert len({TRIXIE.folder_name, forky("4.3").folder_name, forky("4.4").folder_name}) == 3


@pytest.mark.parametrize("number", ["3.10", "4", "4.0.5", "five"])
def test_another_number_is_refused_with_those_that_there_are(number):
    """Before anything is fetched."""
    with pytest.raises(ServiceError, match=rf"^RabbitMQ {number} cannot be unpacked: there is 4.0 .*, e.g. 4.3\.$"):
        release_with(number)


def test_a_suite_that_has_moved_on_is_said_with_its_number(tmp_path, monkeypatch):
    """Nothing is unpacked: what was asked for is not what would be run."""

    class MovedSuite:
        def __init__(self, name, *, folder):
            pass

        def version(self, package):
            return "4.4.1-2"

    monkeypatch.setattr(debian_root, "Suite", MovedSuite)
    with pytest.raises(
        ServiceError, match=r"^Debian forky has RabbitMQ 4\.4 now, not 4\.3; ask for 4\.4 by its number\.$"
    ):
        debian_root._unpack(forky("4.3"), tmp_path)


def test_without_the_right_to_mount_one_sentence_says_what_to_do(monkeypatch):
    """Before anything is fetched."""
    monkeypatch.setattr(debian_root, "_own_mounts", lambda: ("false",))
    with pytest.raises(ServiceError, match="needs root: run this with sudo"):
        debian_root.unpacked.__wrapped__(TRIXIE)


def test_a_working_folder_that_would_hide_the_root_is_refused(tmp_path):
    """A folder below /usr cannot be shared with a root that has its own /usr."""
    root = debian_root.Root(tmp_path)
    with pytest.raises(ServiceError, match="set TMPDIR to another place"):
        root.command("true", folder=tmp_path.joinpath("/usr/local"))
