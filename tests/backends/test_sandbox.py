"""Templates: what they can do, and that whatever they do is soon over."""

import os
from pathlib import Path

import pytest
from jinja2 import DictLoader, TemplateError

from bootfw.backends.sandbox import LARGEST, STEPS, Facts, Sandbox, TooMuchWork, templates_in

FACTS = {
    "client": Facts("client", {"mac": "52:54:00:00:00:01", "ipxe": True}),
    "host": {"disks": ["sda", "sdb"], "net": {"ip": "10.0.0.9"}, "ram": 8},
}


def rendered(template: str, **more: str) -> str:
    return Sandbox(DictLoader({"t": template, **more})).render("t", FACTS).decode()


def why_not(template: str, **more: str) -> str:
    with pytest.raises(TemplateError) as caught:
        rendered(template, **more)
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
    ],
)
def test_what_templates_are_for(template: str, text: str) -> None:
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
        ("{{ host.net|tojson|tojson|nope }}", "No filter named 'nope'"),
    ],
)
def test_mistakes_are_errors_in_the_words_of_who_made_them(template: str, reason: str) -> None:
    assert reason in why_not(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ client.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ host.disks.append('x') }}",
        "{{ host.clear() }}",
        "{{ client.called }}",
        "{{ 'x'.center(9) }}{{ 'x'.encode() }}",
        "{{ '{:>9}'.format(1) }}",
        "{% set f = '{:>9}'.format %}{{ f(1) }}",
        "{{ '%9d' % 1 }}",
        "{{ 1|random }}",
        "{{ lipsum() }}",
        "{{ self._TemplateReference__context.environment }}",
    ],
)
def test_what_they_may_not_touch(template: str) -> None:
    why_not(template)


DOUBLING = "{{% set n = namespace(v={}) %}}{{% for i in range(64) %}}{{% set n.v = {} %}}{{% endfor %}}{{{{ n.v }}}}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(19999) %}{% for j in range(19999) %}{% endfor %}{% endfor %}",
        "{% for i in range(19999) if range(19999)|list|length %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{% for i in range(19999) %}{{ 'x' * 999 }}{% endfor %}",
        "{% set x %}{% for i in range(19999) %}{{ 'x' * 19999 }}{% endfor %}{% endset %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ ['x'] * 10 ** 9 }}",
        "{{ (['x' * 1000] * 9000)|join }}",
        "{{ ('x' * 100000)|replace('x', 'x' * 100000) }}",
        "{{ 10 ** 10 ** 10 }}",
        DOUBLING.format("'x'", "n.v + n.v"),
        DOUBLING.format("'x'", "n.v ~ n.v"),
        DOUBLING.format("['x']", "n.v + n.v"),
        DOUBLING.format("2", "n.v * n.v"),
        DOUBLING.format("[]", "[n.v, n.v]").replace("{{ n.v }}", "{{ n.v|tojson }}"),
    ],
)
def test_work_is_bounded(template: str) -> None:
    with pytest.raises(TooMuchWork):
        rendered(template)


def test_what_nests_exponentially_is_not_printed() -> None:
    assert "can't be printed" in why_not(DOUBLING.format("[]", "[n.v, n.v]"))


@pytest.mark.parametrize("template", ["{% include 't' %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"])
def test_recursion_is_bounded(template: str) -> None:
    with pytest.raises(RecursionError):
        rendered(template)


def test_each_rendering_begins_with_all_its_steps() -> None:
    sandbox = Sandbox(DictLoader({"t": "{% for i in range(n) %}{% endfor %}ok"}))
    for _ in range(3):
        assert sandbox.render("t", {"n": STEPS - 10}) == b"ok"


def test_the_largest_file_can_be_had() -> None:
    half = "{{ 'x' * " + str(LARGEST // 2) + " }}"
    assert len(rendered(half + half)) == LARGEST
    assert f"more than {LARGEST} bytes" in why_not(half + half + "x")


def test_files_that_change_are_compiled_again(tmp_path: Path) -> None:
    sandbox = Sandbox(templates_in(tmp_path))
    (tmp_path / "t").write_text("one {% include 'part' %}")
    (tmp_path / "part").write_text("1")
    assert sandbox.render("t", {}) == b"one 1"
    (tmp_path / "part").write_text("2")
    os.utime(tmp_path / "part", ns=(1, 1))  # another time, however coarse the file system's clock is
    assert sandbox.render("t", {}) == b"one 2"
