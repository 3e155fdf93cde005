"""Conditions of dhcpd and Kea on clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.importing.bootfiles import ClientKind
from bootfw.importing.dhcpdsyntax import Condition
from bootfw.importing.evaluation import UnknownCondition
from bootfw.importing.keasyntax import Test as KeaTest

CODES = {"client-arch": 93}
UEFI = ClientKind(7)

_FACTS = {True: ("option client-arch = 00:07", "option[93].hex == 0x0007"), False: ("known", "member('none')")}
"""Value -> what has it for UEFI, of dhcpd and of Kea."""

expressions = st.recursive(
    st.booleans(),
    lambda part: st.one_of(
        st.tuples(st.just("not"), part), st.tuples(part, st.just("and"), part), st.tuples(part, st.just("or"), part)
    ),
    max_leaves=12,
)


def _text(expression: object, kind: int) -> str:
    if isinstance(expression, bool):
        return _FACTS[expression][kind]
    assert isinstance(expression, tuple)
    mark = " ( {} ) "
    parts = [part if isinstance(part, str) else mark.format(_text(part, kind)) for part in expression]
    return " ".join(parts)


def _value(expression: object) -> bool:
    match expression:
        case bool():
            return expression
        case ("not", part):
            return not _value(part)
        case (one, "and", other):
            return _value(one) and _value(other)
        case (one, "or", other):
            return _value(one) or _value(other)
    raise AssertionError(expression)


def _dhcpd(text: str) -> bool:
    return Condition(text.replace("(", " ( ").replace(")", " ) ").split(), CODES).holds(UEFI)


def _kea(text: str) -> bool:
    return KeaTest(text, CODES).holds(UEFI, ())


@given(expressions)
def test_conditions_have_the_value_of_their_parts(expression: object) -> None:
    assert _dhcpd(_text(expression, 0)) is _value(expression)
    assert _kea(_text(expression, 1)) is _value(expression)


@pytest.mark.parametrize(
    ("dhcpd", "kea", "value"),
    [
        ("{1} or {1} and {0}", "{1} or {1} and {0}", True),
        ("{0} and {1} or {1}", "{0} and {1} or {1}", True),
        ("not {0} and {0}", "not {0} and {0}", False),
        ("not not {1}", "not not {1}", True),
    ],
)
def test_and_binds_more_tightly_than_or(dhcpd: str, kea: str, value: bool) -> None:
    assert _dhcpd(dhcpd.format(_FACTS[False][0], _FACTS[True][0])) is value
    assert _kea(kea.format(_FACTS[False][1], _FACTS[True][1])) is value


@pytest.mark.parametrize(
    ("text", "value"), [("not ", "known"), ("( ", "known"), ("( ", "1"), ("lcase ( ", "1"), ("substring ( ", "'a'")]
)
def test_a_condition_that_is_nested_too_deep_is_unknown(text: str, value: str) -> None:
    for holds in (_dhcpd, _kea):
        with pytest.raises(UnknownCondition):
            holds(text * 5000 + value)


@pytest.mark.parametrize("text", ["", "and", "known and", "known known", "( known", "known )"])
def test_incomplete_conditions_are_unknown(text: str) -> None:
    with pytest.raises(UnknownCondition):
        _dhcpd(text)
    with pytest.raises(UnknownCondition):
        _kea(text.replace("known", "member('none')"))
