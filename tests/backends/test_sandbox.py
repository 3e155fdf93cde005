"""The sandbox of templates: the features that they can use, and the limits on their time and memory."""

import os
from pathlib import Path

import pytest
from jinja2 import DictLoader, TemplateError

from bootfw.backends.sandbox import LARGEST, Facts, LimitExceeded, Sandbox, Unavailable, templates_in

FACTS = {
    "client": Facts("client", {"mac": "52:54:00:00:00:01", "ipxe": True}),
    "host": {"disks": ["sda", "sdb"], "net": {"ip": "10.0.0.9"}, "ram": 8},
    "absent": Unavailable("there is no HTTP"),
}


def rendered(template: str, **other_templates: str) -> str:
    return Sandbox(DictLoader({"t": template, **other_templates})).render("t", FACTS).decode()


def error_of(template: str, **other_templates: str) -> str:
    with pytest.raises(TemplateError) as caught:
        rendered(template, **other_templates)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ client.mac }} {{ host.net.ip }} {{ host['ram'] + 1 }}", "52:54:00:00:00:01 10.0.0.9 9"),
        ("{{ client.mac|replace(':', '-') }}", "52-54-00-00-00-01"),
        ("{{ client.mac ~ '/' ~ host.ram ~ '/' ~ true }}", "52:54:00:00:00:01/8/true"),
        ("{{ client.ipxe }}", "true"),
        ("{% for disk in host.disks %}{{ loop.index }}={{ disk }} {% endfor %}", "1=sda 2=sdb "),
        ("{{ host.disks|join(',') }}", "sda,sdb"),
        ("{{ [{'a': 1}, {'a': 2}]|join('-', 'a') }}", "1-2"),
        ("{{ host|tojson }}", '{"disks": ["sda", "sdb"], "net": {"ip": "10.0.0.9"}, "ram": 8}'),
        ("{% if host.role is defined %}yes{% else %}no{% endif %}", "no"),
        ("{{ host.role|default('web') }}", "web"),
        ("{% set n = namespace(v=1) %}{% for i in range(3) %}{% set n.v = n.v * 2 %}{% endfor %}{{ n.v }}", "8"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) }}{{ m('a') }}", "<1><a>"),
        ("{% for k, v in host.net|dictsort %}{{ k }}={{ v }}{% endfor %}", "ip=10.0.0.9"),
        ("{{ 'a' + 'b' }}{{ 'ab' * 2 }}{{ 2 ** 10 }}{{ 7 % 4 }}", "ababab10243"),
        ("{{ '<&>' }}\n", "<&>\n"),
        ("  {% if true %}\nx\n  {% endif %}\n", "x\n"),
        ("{{ 'a,b'.split(',')|last }}", "b"),
        ("{{ host.disks|map('upper')|join }}", "SDASDB"),
        ("{{ 4096 * 4096 }} {{ 'a' ~ [1, 2]|join('.') }}", "16777216 a1.2"),
        ("{{ absent or 'x' }}{{ absent|default('y') }}{% if not absent and absent == '' %}z{% endif %}", "xyz"),
    ],
)
def test_templates_can_use_the_documented_features(template: str, text: str) -> None:
    assert rendered(template) == text


def test_templates_include_extend_and_import_each_other() -> None:
    assert rendered("{% include 'o' %}!", o="{{ host.ram }}") == "8!"
    assert rendered("{% extends 'o' %}{% block b %}x{% endblock %}", o="<{% block b %}{% endblock %}>") == "<x>"
    assert rendered("{% from 'o' import m %}{{ m() }}", o="{% macro m() %}x{% endmacro %}") == "x"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ nope }}", "'nope' is undefined"),
        ("{{ client.serial }}", 'client has no "serial"; it has mac, ipxe'),
        ("{{ host.net.mask }}", 'the table has no "mask"; it has ip'),
        ("{{ nope ~ 'x' }}", "'nope' is undefined"),
        ("{{ nope + 1 }}", "'nope' is undefined"),
        ("{{ [nope]|join }}", "'nope' is undefined"),
        ("{{ [nope]|tojson }}", "'nope' is undefined"),
        ("{% for x in nope %}{% endfor %}", "'nope' is undefined"),
        ("{% if nope %}{% endif %}", "'nope' is undefined"),
        ("{% if client.mac == nope %}{% endif %}", "'nope' is undefined"),
        ("{{ host.disks }}", "a list can't be printed"),
        ("{{ host.net }}", "a table can't be printed"),
        ("{{ none }}", "the value is null"),
        ("{{ host.disks ~ 'x' }}", "a list can't be printed"),
        ("{{ [host.disks]|join }}", "a list can't be printed"),
        ("{{ host.items|tojson }}", "a builtin_function_or_method can't be JSON"),
        ("{{ absent }}", "there is no HTTP"),
        ("{{ absent ~ '/x' }}", "there is no HTTP"),
        ("{{ absent + '/x' }}", "there is no HTTP"),
        ("{{ [absent, 'x']|join('/') }}", "there is no HTTP"),
        ("{{ absent|tojson }}", "there is no HTTP"),
        ("{{ host.net|tojson|tojson|nope }}", "No filter named 'nope'"),
    ],
)
def test_mistakes_are_errors_that_name_the_variable_or_the_value(template: str, reason: str) -> None:
    assert reason in error_of(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ client.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ host.disks.append('x') }}",
        "{{ host.clear() }}",
        "{{ client._name }}",
        "{{ 'x'.center(9) }}",
        "{{ 'x'|attr('center')(9) }}",
        "{{ 'x'|center(9) }}",
        "{{ 'x'|indent(9) }}",
        "{{ (1).to_bytes(9, 'big')|length }}",
        "{{ 'x'.encode()|length }}",
        "{{ '{:>9}'.format(1) }}",
        "{% set f = '{:>9}'.format %}{{ f(1) }}",
        "{{ '%9d' % 1 }}",
        "{{ '%9d'|format(1) }}",
        "{{ 1|random }}",
        "{{ lipsum() }}",
        "{{ self._TemplateReference__context.environment }}",
    ],
)
def test_templates_cannot_use_forbidden_features(template: str) -> None:
    error_of(template)


DOUBLING = "{{% set n = namespace(v={}) %}}{{% for i in range(64) %}}{{% set n.v = {} %}}{{% endfor %}}{{{{ n.v }}}}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
        "{% for i in r if r|list|length %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        DOUBLING.format("[]", "[n.v, n.v]").replace("{{ n.v }}", "{{ n.v|tojson }}"),
    ],
)
def test_time_is_limited(template: str) -> None:
    sandbox = Sandbox(DictLoader({"t": template}), longest=0.01)
    with pytest.raises(LimitExceeded, match=r"takes more than 0\.01 s of processor time"):
        sandbox.render("t", {"r": range(50_000)})


def test_a_range_is_limited() -> None:
    with pytest.raises(OverflowError, match="Range too big"):
        rendered("{% for i in range(10 ** 9) %}{% endfor %}")


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(19999) %}{{ 'x' * 999 }}{% endfor %}",
        "{% set x %}{% for i in range(19999) %}{{ 'x' * 19999 }}{% endfor %}{% endset %}",
        "{% set y = 'x' * 19999 %}{% set x %}{% for i in range(19999) %}{{ y }}{% endfor %}{% endset %}",
        "{{ ['', '', '']|join('x' * 600000) }}",
        "{% set n = namespace(v='') %}{% for i in range(999) %}{% set n.v = [n.v, 'x' * 999]|join %}{% endfor %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ ['x'] * 10 ** 9 }}",
        "{{ (['x' * 1000] * 90000)|join }}",
        "{{ 10 ** 1000000 }}",
        DOUBLING.format("'x'", "n.v + n.v"),
        DOUBLING.format("'x'", "n.v ~ n.v"),
        DOUBLING.format("['x']", "n.v + n.v"),
        DOUBLING.format("2", "n.v * n.v"),
        "{% set n = namespace(v=2) %}{% for i in range(99) %}{% set n.v = n.v ** 9 %}{% endfor %}",
    ],
)
def test_memory_is_limited(template: str) -> None:
    with pytest.raises(LimitExceeded, match=r"more than|larger than"):
        rendered(template)


# A template may take a number from the requested path.
@pytest.mark.parametrize(
    "expression", ["'x' * n", "[1] * n", "'x'.zfill(n)", "'x'|center(n)", "'%*d' % (n, 1)", "10 ** n"]
)
def test_a_number_from_a_request_can_not_create_large_values(expression: str) -> None:
    error_of(f"{{% set n = '999999999'|int %}}{{{{ ({expression})|length }}}}")


def test_values_are_never_templates() -> None:
    sandbox = Sandbox(DictLoader({"t": "{{ v }}{{ v ~ v }}{% set w = v %}{{ w|upper }}"}))
    assert sandbox.render("t", {"v": "{{ 1 }}"}) == b"{{ 1 }}" * 4


def test_exponentially_nested_output_is_refused() -> None:
    assert "can't be printed" in error_of(DOUBLING.format("[]", "[n.v, n.v]"))


@pytest.mark.parametrize("template", ["{% include 't' %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"])
def test_recursion_is_bounded(template: str) -> None:
    with pytest.raises(RecursionError):
        rendered(template)


def test_the_limit_is_for_each_rendering() -> None:
    sandbox = Sandbox(DictLoader({"t": "{% for i in range(24) %}{% set x = 'x' * 1000000 %}{% endfor %}ok"}))
    for _ in range(3):
        assert sandbox.render("t", {}) == b"ok"


def test_output_may_have_the_largest_size_and_no_more() -> None:
    half = "{{ 'x' * " + str(LARGEST // 2) + " }}"
    assert len(rendered(half + half)) == LARGEST
    assert f"more than {LARGEST} bytes" in error_of(half + half + "x")


def test_changed_template_is_recompiled(tmp_path: Path) -> None:
    sandbox = Sandbox(templates_in(tmp_path))
    (tmp_path / "t").write_text("one {% include 'part' %}")
    (tmp_path / "part").write_text("1")
    assert sandbox.render("t", {}) == b"one 1"
    (tmp_path / "part").write_text("2")
    os.utime(tmp_path / "part", ns=(1, 1))  # another time, however coarse the file system's clock is
    assert sandbox.render("t", {}) == b"one 2"
