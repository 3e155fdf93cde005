"""Evaluates conditions on clients: the part that those of ISC dhcpd and of Kea have in common."""

from abc import ABC, abstractmethod

_DEEPEST = 50
"""Most levels of nested conditions."""


class UnknownCondition(ValueError):
    """A condition depends on something that bootfw import does not know; the message has its words."""


class Evaluation(ABC):
    """Evaluates a condition from its words, from left to right; ``and`` binds more tightly than ``or``."""

    def __init__(self, words: list[str]) -> None:
        self.unread = words
        """The words that have not been read yet."""
        self._depth = 0

    def value(self) -> bool:
        """Evaluate all words.

        :raise UnknownCondition: a part is not known, even if the rest decides: there is no short-circuit evaluation, so
            the result does not depend on the client.
        """
        words = " ".join(self.unread)
        value = self._disjunction()
        if self.unread:
            raise UnknownCondition(words)
        return value

    @abstractmethod
    def _comparison(self) -> bool:
        """Evaluate one operand of ``and``, ``or`` or ``not``."""

    def _disjunction(self) -> bool:
        value = self._conjunction()
        while self._take("or"):
            value = self._conjunction() or value  # in this order, so that its words are read in any case
        return value

    def _conjunction(self) -> bool:
        value = self._negation()
        while self._take("and"):
            value = self._negation() and value
        return value

    def _negation(self) -> bool:
        self._descend()
        value = not self._negation() if self._take("not") else self._comparison()
        self._depth -= 1
        return value

    def _descend(self) -> None:
        """Enter a nested condition; the caller leaves it by ``self._depth -= 1``."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnknownCondition("it is nested too deep")

    def _take(self, word: str) -> bool:
        if self.unread[:1] == [word]:
            del self.unread[0]
            return True
        return False

    def _word(self) -> str:
        if not self.unread:
            raise UnknownCondition("it ends too early")
        return self.unread.pop(0)

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise UnknownCondition(f"{word} is missing")

    def _no_comparison(self) -> UnknownCondition:
        """Return the error of words that are no comparison."""
        return UnknownCondition(" ".join(self.unread[:3]) or "it ends too early")
