"""The request line of tmcd."""

import pytest
from bootfw_emulab.commands import COMMANDS, PHYSICAL, VIRTUAL, find
from bootfw_emulab.tmcdrequest import TmcdRequest, parse
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b"VERSION=34 status ", TmcdRequest("status", "", 34)),
        (b"status", TmcdRequest("status")),
        (b"  VERSION=34   state   ISUP ", TmcdRequest("state", "ISUP", 34)),
        (b"VNODEID=pcvm1-1 VERSION=34 status ", TmcdRequest("status", "", 34, virtual_node="pcvm1-1")),
        (b"PRIVKEY=DEADBEEFdeadbeef VERSION=21 x ", TmcdRequest("x", "", 21, private_key="deadbeefdeadbeef")),
        (b"VERSION=34 IDKEY=abc123 status ", TmcdRequest("status", "", 34, identity_key="abc123")),
        (b"REDIRECT=10.9.0.11 status ", TmcdRequest("status", redirected="10.9.0.11")),
        (b"VERSION=34 bootlog line one\nline two\n", TmcdRequest("bootlog", "line one\nline two", 34)),
        (b"accounts pubkeys VERSION=3 ", TmcdRequest("accounts", "pubkeys VERSION=3")),
        (b"UNKNOWN=1 status ", TmcdRequest("UNKNOWN=1", "status")),
        (b"status \0rubbish", TmcdRequest("status")),
    ],
)
def test_a_line_is_tags_command_and_argument(line: bytes, request_: TmcdRequest) -> None:
    assert parse(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   ",
        b"VERSION=34 ",
        b"VERSION=x status ",
        b"VERSION= status ",
        b"PRIVKEY=deadbeef status ",  # shorter than 16 digits
        b"PRIVKEY=" + b"a" * 129 + b" status ",
        b"PRIVKEY=deadbeefdeadbeeg status ",
        b"IDKEY=a-b status ",
        b"VNODEID=" + b"a" * 31 + b" status ",
        b"VNODEID=a/b status ",
        b"REDIRECT=10.9.0.256 status ",
    ],
)
def test_invalid_line_is_no_request(line: bytes) -> None:
    assert parse(line) is None


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    request = parse(line)
    assert request is None or request.word


def name_of(word: str, *template_commands: str) -> str:
    command = find(word, template_commands)
    return command.name if command is not None else ""


def test_a_word_has_to_begin_with_a_command() -> None:
    assert [name_of(word) for word in ("status", "statusfoo", "stat", "xstatus")] == ["status", "status", "", ""]


def test_the_longer_of_two_commands_is_found() -> None:
    assert [name_of(word) for word in ("readycount", "ready", "startstatus", "startstat", "delay", "delayed")] == [
        *("readycount", "ready", "startstatus", "startstat", "delay", "delay")
    ]


def test_each_command_finds_itself() -> None:
    assert [command.name for command in COMMANDS if name_of(command.name) != command.name] == []


def test_commands_of_templates_come_after_ours() -> None:
    assert name_of("motd", "mo", "motd") == "motd"
    assert name_of("statusboard", "statusboard") == "status"


def test_the_full_configuration_has_known_commands() -> None:
    assert {*PHYSICAL} <= {command.name for command in COMMANDS}
    assert {*VIRTUAL} < {*PHYSICAL}
