"""Preconditions and ranges of HTTP requests."""

import datetime
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.wire.http import Validators, as_named, failed_precondition, http_date, requested_range

MODIFIED = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"  # RFC 9110 section 5.6.7
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
VALIDATORS = Validators('"1f-2"', MODIFIED)
NO_VALIDATORS = Validators()


def header_lookup(**headers: str | None) -> Callable[[str], str | None]:
    """A function that returns the value of a header; ``If_Match`` stands for ``If-Match``."""
    return {name.replace("_", "-"): value for name, value in headers.items()}.get


def test_dates_are_written_in_the_format_of_rfc_9110() -> None:
    assert http_date(MODIFIED) == DATE


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"If_Match": '"1f-2"'}, None),
        ({"If_Match": '"x", "1f-2"'}, None),
        ({"If_Match": '"x","1f-2" '}, None),
        ({"If_Match": "*"}, None),
        ({"If_Match": '"x"'}, 412),
        ({"If_Match": ""}, 412),
        ({"If_Match": 'W/"1f-2"'}, 412),  # section 13.1.1: by strong comparison
        ({"If_Match": '"1f-2"', "If_Unmodified_Since": BEFORE}, None),  # section 13.1.4: then it is ignored
        ({"If_Unmodified_Since": DATE}, None),
        ({"If_Unmodified_Since": AFTER}, None),
        ({"If_Unmodified_Since": BEFORE}, 412),
        ({"If_Unmodified_Since": "yesterday"}, None),
        ({"If_Unmodified_Since": "Sunday, 06-Nov-94 08:49:36 GMT"}, 412),
        ({"If_Unmodified_Since": "Sun Nov  6 08:49:36 1994"}, 412),
        ({"If_None_Match": '"1f-2"'}, 304),
        ({"If_None_Match": 'W/"1f-2"'}, 304),  # section 13.1.2: by weak comparison
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, None),
        ({"If_None_Match": '"x"', "If_Modified_Since": DATE}, None),  # section 13.1.3: then it is ignored
        ({"If_Modified_Since": DATE}, 304),
        ({"If_Modified_Since": AFTER}, 304),
        ({"If_Modified_Since": BEFORE}, None),
        ({"If_Match": '"x"', "If_None_Match": '"1f-2"'}, 412),
    ],
)
def test_preconditions(headers: dict[str, str], status: int | None) -> None:
    assert failed_precondition(header_lookup(**headers), VALIDATORS) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": '"1f-2"'}, 412),
        ({"If_Match": '""'}, 412),
        ({"If_Match": "*"}, None),
        ({"If_None_Match": '""'}, None),
        ({"If_Unmodified_Since": BEFORE}, None),
        ({"If_Modified_Since": AFTER}, None),
    ],
)
def test_preconditions_without_etag_and_mtime(headers: dict[str, str], status: int | None) -> None:
    assert failed_precondition(header_lookup(**headers), NO_VALIDATORS) == status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("bytes=0-0", range(1)),
        ("bytes=0-", range(1000)),
        ("bytes=500-999", range(500, 1000)),
        ("bytes=500-1000", range(500, 1000)),
        ("bytes=999-99999999999999999999", range(999, 1000)),
        ("Bytes= 1-2 ", range(1, 3)),
        ("bytes=-1", range(999, 1000)),
        ("bytes=-1000", range(1000)),
        ("bytes=-5000", range(1000)),
        ("bytes=-0", range(0)),
        ("bytes=1000-", range(0)),
        ("bytes=1000-2000", range(0)),
        ("bytes=2-1", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=\u0661-2", None),
        ("bytes=0-1,5-6", None),
        ("octets=0-1", None),
        (f"bytes=0-{'9' * 5000}", None),
    ],
)
def test_ranges(text: str | None, expected: range | None) -> None:
    found = requested_range(header_lookup(Range=text), VALIDATORS, 1000)
    assert (found and list(found)) == (expected and list(expected))


@pytest.mark.parametrize(("text", "expected"), [("bytes=0-", range(0)), ("bytes=-5", None), ("bytes=-0", range(0))])
def test_ranges_of_an_empty_file(text: str, expected: range | None) -> None:
    assert requested_range(header_lookup(Range=text), VALIDATORS, 0) == expected


@pytest.mark.parametrize(
    ("condition", "satisfied"),
    [
        ('"1f-2"', True),
        (DATE, True),
        ('"x"', False),
        ('W/"1f-2"', False),
        (BEFORE, False),
        (AFTER, False),
        ("", False),
        ('""', False),
    ],
)
def test_if_range(condition: str, satisfied: bool) -> None:
    found = requested_range(header_lookup(Range="bytes=1-2", If_Range=condition), VALIDATORS, 1000)
    assert found == (range(1, 3) if satisfied else None)
    assert requested_range(header_lookup(Range="bytes=1-2", If_Range=condition), NO_VALIDATORS, 1000) is None


@given(st.integers(0, 2**40), st.integers(0, 2**41), st.integers(0, 2**41))
def test_range_equals_a_slice(size: int, first: int, last: int) -> None:
    found = requested_range(header_lookup(Range=f"bytes={first}-{last}"), VALIDATORS, size)
    if last < first:
        assert found is None
    else:
        assert found == range(*slice(first, last + 1).indices(size))


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2200, 1, 1)))
def test_a_date_round_trips(time: datetime.datetime) -> None:
    seconds = int(time.replace(tzinfo=datetime.UTC).timestamp())
    date = http_date(seconds)
    assert failed_precondition(header_lookup(If_Modified_Since=date), Validators("", seconds)) == 304
    assert failed_precondition(header_lookup(If_Modified_Since=date), Validators("", seconds + 1)) is None


_HEADER = st.none() | st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, ?[0-9]{1,9}[ -][A-Z][a-z]{2}[ -][0-9: +-]{0,20}\Z")


@given(_HEADER, _HEADER, _HEADER, _HEADER)
def test_any_headers_are_answered(first: str | None, second: str | None, third: str | None, fourth: str | None) -> None:
    header = header_lookup(
        If_Match=None, If_Unmodified_Since=first, If_Modified_Since=second, If_Range=third, Range=fourth
    )
    assert failed_precondition(header, VALIDATORS) in (None, 304, 412)
    found = requested_range(header, VALIDATORS, 1000)
    assert found is None or (0 <= found.start <= found.stop <= 1000)


def test_an_earlier_entity_tag_of_the_version_still_matches() -> None:
    validators = Validators('"1f-2"', MODIFIED, '"1f00-2"')
    for tag in ('"1f-2"', '"1f00-2"'):
        assert as_named(header_lookup(If_Range=tag), validators).etag == tag
        assert as_named(header_lookup(If_Match=tag), validators).etag == tag
        assert requested_range(header_lookup(Range="bytes=1-", If_Range=tag), validators, 2) == range(1, 2)
        assert failed_precondition(header_lookup(If_Match=tag), validators) is None
        assert failed_precondition(header_lookup(If_None_Match=f"W/{tag}"), validators) == 304
    for tag in ('"1f01-2"', 'W/"1f00-2"', '""'):
        assert requested_range(header_lookup(Range="bytes=1-", If_Range=tag), validators, 2) is None
        assert failed_precondition(header_lookup(If_Match=tag), validators) == 412
        assert as_named(header_lookup(If_Range=tag, If_Match=tag), validators) == validators
    assert as_named(header_lookup(), validators) == validators
    assert not NO_VALIDATORS.has("")
