"""The answers of a boot API, and the scripts that are made of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.resolvers.bootapi import BootAnswer, boot_answer

API = "http://10.0.0.5:8000"


def script(
    document: dict[str, list[str] | dict[str, dict[str, str] | str | bool] | str | None], api: str = API
) -> list[str]:
    return boot_answer(json.dumps(document).encode(), api).script.splitlines()


def test_the_examples_of_pixiecores_readme() -> None:
    assert script({"kernel": "/kernel", "initrd": ["/initrd.0", "/initrd.1"]}) == [
        "#!ipxe",
        "kernel --name kernel http://10.0.0.5:8000/kernel",
        "initrd --name initrd0 http://10.0.0.5:8000/initrd.0",
        "initrd --name initrd1 http://10.0.0.5:8000/initrd.1",
        "boot kernel initrd=initrd0 initrd=initrd1",
    ]
    answer = boot_answer(
        b'{"kernel": "https://files.local/kernel", "initrd": ["https://files.local/initrd"],'
        b' "cmdline": "selinux=1 coreos.autologin"}',
        API,
    )
    assert answer.script.splitlines()[-1] == "boot kernel initrd=initrd0 selinux=1 coreos.autologin"
    assert answer.schemes == {"https"}


@pytest.mark.parametrize(
    ("url", "resolved_url"),
    [
        ("http://10.0.0.7/k", "http://10.0.0.7/k"),
        ("/foo", "http://bar.com/foo"),  # not http://bar.com/baz/foo, says the README
        ("foo", "http://bar.com/baz/foo"),
        ("tftp://10.0.0.7/k", "tftp://10.0.0.7/k"),
    ],
)
def test_urls_are_resolved_against_that_of_the_api(url: str, resolved_url: str) -> None:
    assert script({"kernel": url}, "http://bar.com/baz")[1] == f"kernel --name kernel {resolved_url}"


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("", ""),
        (None, ""),
        ("  a   b=c ", " a b=c"),
        ("a\nb", " a b"),
        ('x={{ URL "https://files.local/x" }} y={{URL "/y"}}', " x=https://files.local/x y=http://10.0.0.5:8000/y"),
        ({"a": "b", "c": True, "d": {"url": "/e"}}, " a=b c d=http://10.0.0.5:8000/e"),
        ({"a": "b c"}, ' a="b c"'),
        ("root=${net0/ip}", " root=${net0/ip}"),
    ],
)
def test_command_lines(cmdline: dict[str, dict[str, str] | str | bool] | str | None, expected: str) -> None:
    assert script({"kernel": "/k", "cmdline": cmdline})[-1] == f"boot kernel{expected}"


def test_a_message_is_shown_and_can_contain_no_commands() -> None:
    lines = script({"kernel": "/k", "message": "Installing\nbuild-7 || shell ${mac}"})
    assert lines[1:3] == ["echo Installing", "echo build-7 shell $ {mac}"]


def test_script_is_returned_unchanged() -> None:
    assert boot_answer(b'{"ipxe-script": "#!ipxe\\nshell\\n"}', API) == BootAnswer("#!ipxe\nshell\n")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the answer is no JSON"),
        (b"\xff", "the answer is no JSON"),
        (b"[" * 100_000, "the answer is no JSON"),
        (b"[]", "the answer must be a JSON object"),
        (b"{}", '"kernel" must be a URL'),
        (b'{"kernel": 5}', '"kernel" must be a URL'),
        (b'{"kernel": "file:///mnt/k"}', "file:// URLs are not served"),
        (b'{"kernel": "ftp://x/k"}', "must be a URL of http, https, tftp"),
        (b'{"kernel": "http://x/a b"}', "must have no blanks"),
        (b'{"kernel": "http://x/a\\nshell"}', "must"),
        (b'{"kernel": "http://[x/"}', ""),
        (b'{"kernel": "/k", "initrd": "/i"}', '"initrd" must be a list'),
        (b'{"kernel": "/k", "initrd": ["/i", 5]}', '"initrd[1]" must be a URL'),
        (b'{"kernel": "/k", "cmdline": 5}', '"cmdline" must be a string or an object'),
        (b'{"kernel": "/k", "cmdline": "a || shell"}', "|| would end the command in iPXE"),
        (b'{"kernel": "/k", "cmdline": "{{ ID 5 }}"}', "the only template is"),
        (b'{"kernel": "/k", "cmdline": {"a": false}}', '"cmdline.a" must be a string, true, or'),
        (b'{"kernel": "/k", "cmdline": {"a": {"x": 1}}}', '"cmdline.a.url" must be a URL'),
        (b'{"kernel": "/k", "message": 5}', '"message" must be a string'),
        (b'{"ipxe-script": "shell"}', 'must be a string that begins with "#!ipxe"'),
    ],
)
def test_invalid_answers_are_errors(body: bytes, error: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is what matters
        boot_answer(body, API)
    assert error in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["kernel", "initrd", "cmdline", "message", "ipxe-script"]), JSON | st.just("/k"))
)
def test_any_answer_gives_a_script_with_one_command_per_line_or_value_error(document: dict[str, Any]) -> None:
    try:
        answer = boot_answer(json.dumps(document).encode(), API)
    except ValueError:
        return
    if "ipxe-script" not in document:
        lines = answer.script.splitlines()
        assert [line.split()[0] for line in lines if not line.startswith("echo")] == [
            "#!ipxe",
            "kernel",
            *["initrd"] * len(document.get("initrd") or []),
            "boot",
        ]
