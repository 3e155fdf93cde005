"""Placeholders in names of boot files."""

from typing import Any

import pytest
from attrs import evolve

from bootfw.dhcp.expand import PLACEHOLDERS, check_placeholders, expand, placeholders
from bootfw.errors import BootRefused, ConfigError
from bootfw.values import BootRequest

REQUEST = BootRequest(
    mac="52:54:00:12:34:56",
    phase="discover",
    persona="uefi",
    architecture="x86_64-uefi",
    uuid="52420077-1234-4abc-9def-0123456789ab",
    server="10.0.0.1",
    http_url="http://10.0.0.1:8069",
    https_url="https://boot.example",
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("pxelinux.0", "pxelinux.0"),
        ("http://{server}:8069/boot.ipxe", "http://10.0.0.1:8069/boot.ipxe"),
        ("{http}/boot.ipxe", "http://10.0.0.1:8069/boot.ipxe"),
        ("{https}/boot.ipxe?{http}", "https://boot.example/boot.ipxe?http://10.0.0.1:8069"),
        ("{architecture}/{mac}.efi", "x86_64-uefi/52:54:00:12:34:56.efi"),
        ("{uuid}{uuid}", "52420077-1234-4abc-9def-0123456789ab" * 2),
        ("http://{server}/${net0/mac}?mac=${mac}", "http://10.0.0.1/${net0/mac}?mac=${mac}"),
        ("{}{other}{{server}}{", "{}{other}{10.0.0.1}{"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, REQUEST) == expanded


@pytest.mark.parametrize(("placeholder", "absent"), [("uuid", None), ("mac", ""), ("server", "")])
def test_missing_client_value_is_refused(placeholder: str, absent: str | None) -> None:
    missing: dict[str, Any] = {placeholder: absent}
    with pytest.raises(BootRefused, match=f"needs {{{placeholder}}}"):
        expand(f"x/{{{placeholder}}}.ipxe", evolve(REQUEST, **missing))


@pytest.mark.parametrize(("name", "key"), [("http", "listen"), ("https", "https-listen")])
def test_missing_http_server_is_named_with_its_key(name: str, key: str) -> None:
    missing: dict[str, Any] = {f"{name}_url": ""}
    with pytest.raises(BootRefused, match=rf"needs {{{name}}}, and no {name.upper()} is served .* \[http\] {key}$"):
        expand(f"{{{name}}}/boot.ipxe", evolve(REQUEST, **missing))


def test_placeholders_are_found() -> None:
    assert placeholders("{http}/{mac}?{other}&${https}") == ["http", "mac"]


@pytest.mark.parametrize(
    "text", ["boot.ipxe", "{server}/{mac}/{uuid}/{architecture}", "${net0/mac}{server}", "{", "a}b"]
)
def test_known_placeholders_are_valid(text: str) -> None:
    check_placeholders(text)


@pytest.mark.parametrize("text", ["{ip}", "{}", "{Server}", "{server }", "x{server}{mac-hyphen}"])
def test_an_unknown_placeholder_is_named_with_those_that_are_known(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown placeholder") as caught:
        check_placeholders(text)

    assert all(f"{{{name}}}" in caught.value.message for name in PLACEHOLDERS)
