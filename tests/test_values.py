"""Values that are created for each transfer: without slots, which is faster, they behave like values with slots."""

import enum
import pickle
from typing import Any

import attrs
import pytest

from bootfw.values import Agreed, Mode, Outcome, TransferReport, TransferRequest

REQUEST = TransferRequest("file", "file", ("192.0.2.1", 2000), mode=Mode.OCTET, options=(("blksize", "1408"),))
REPORT = TransferReport(REQUEST, Agreed(), Outcome.COMPLETE, "", 10, 1, 0, 1.0, 2.0)


@pytest.mark.parametrize("value", [REQUEST, REPORT], ids=["request", "report"])
def test_values_without_slots_behave_like_values_with_slots(value: TransferRequest | TransferReport) -> None:
    """Frozen, equal and hashed by its fields, copied by evolve() and by pickle, and without other attributes."""
    name = attrs.fields(type(value))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, "other")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, "another", "attribute")  # noqa: B010 (it has none)
    assert attrs.evolve(value) == value
    assert hash(attrs.evolve(value)) == hash(value)
    assert pickle.loads(pickle.dumps(value)) == value
    assert list(vars(value)) == [field.name for field in attrs.fields(type(value))]


def test_outcomes_are_dictionary_keys_like_other_enumerations() -> None:
    names = [(outcome.name, outcome.value) for outcome in Outcome]
    usual: Any = enum.Enum("Usual", names)  # type: ignore[misc]  # its members are not literals
    table = {outcome: outcome.name for outcome in Outcome}
    for outcome in Outcome:
        assert table[pickle.loads(pickle.dumps(outcome))] == usual(outcome.value).name
    assert len({hash(outcome) for outcome in Outcome}) == len(Outcome)
