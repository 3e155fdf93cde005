"""Conditions on clients: what those of ISC dhcpd and of Kea have in common."""

from abc import ABC, abstractmethod

_DEEPEST = 50
"""Of conditions in conditions."""


class UnknownCondition(ValueError):
    """What a condition depends on is not known here; the message has the words that it is about."""


class Evaluation(ABC):
    """Evaluates a condition from its words, from left to right; ``and`` binds more tightly than ``or``."""

    def __init__(self, words: list[str]) -> None:
        self.left = words
        """Those that have not been read yet."""
        self._depth = 0

    def value(self) -> bool:
        """Evaluate all words.

        :raise UnknownCondition: something in it is not known, even where the rest decides.
        """
        words = " ".join(self.left)
        value = self._disjunction()
        if self.left:
            raise UnknownCondition(words)
        return value

    @abstractmethod
    def _comparison(self) -> bool:
        """Evaluate what ``and``, ``or`` and ``not`` join."""

    def _disjunction(self) -> bool:
        value = self._conjunction()
        while self._take("or"):
            value = self._conjunction() or value
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
        """Begin a part of a part; the caller ends it by ``self._depth -= 1``."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnknownCondition("it is nested too deep")

    def _take(self, word: str) -> bool:
        if self.left[:1] == [word]:
            del self.left[0]
            return True
        return False

    def _word(self) -> str:
        if not self.left:
            raise UnknownCondition("it ends too early")
        return self.left.pop(0)

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise UnknownCondition(f"{word} is missing")

    def _no_comparison(self) -> UnknownCondition:
        """Return the error of words that are no comparison."""
        return UnknownCondition(" ".join(self.left[:3]) or "it ends too early")
