"""ISelfChecking and ILintable."""

from zope.interface.verify import verifyObject

from bootfw.interfaces import ILintable, ISelfChecking
from bootfw.values import Finding


class SelfCheckingContract:
    """The tests of a backend or resolver that finds out whether it can serve anything. Override both methods.

    Beside these use the kit of what the plugin is, such as BackendContract.
    """

    def make_plugin(self) -> ISelfChecking:
        """Return a plugin that can serve something."""
        raise NotImplementedError

    def make_useless_plugin(self) -> ISelfChecking:
        """Return a plugin that can't serve anything, such as one whose directory is missing."""
        raise NotImplementedError

    def test_provides_the_self_checking_interface(self) -> None:
        verifyObject(ISelfChecking, self.make_plugin())

    def test_nothing_is_said_when_there_is_no_problem(self) -> None:
        assert self.make_plugin().problem() == ""

    def test_the_problem_is_one_line(self) -> None:
        problem = self.make_useless_plugin().problem()
        assert isinstance(problem, str)
        assert problem.strip(), "it can't serve anything, and does not say so"
        assert "\n" not in problem

    def test_the_problem_is_there_as_long_as_it_lasts(self) -> None:
        plugin = self.make_useless_plugin()
        assert plugin.problem() == plugin.problem()


class LintableContract:
    """The tests of a backend or resolver that checks files of its own for ``bootfw lint``. Override both methods.

    Beside these use the kit of what the plugin is, such as BackendContract.
    """

    def make_plugin(self) -> ILintable:
        """Return a plugin whose files have no mistake."""
        raise NotImplementedError

    def make_mistaken_plugin(self) -> ILintable:
        """Return a plugin with at least one mistake in its files."""
        raise NotImplementedError

    def test_provides_the_lintable_interface(self) -> None:
        verifyObject(ILintable, self.make_plugin())

    def test_files_without_a_mistake_have_no_findings(self) -> None:
        assert list(self.make_plugin().lint()) == []

    def test_findings_say_where_what_and_what_would_be_right(self) -> None:
        findings = list(self.make_mistaken_plugin().lint())
        assert findings, "there is a mistake, and nothing is found"
        for finding in findings:
            assert isinstance(finding, Finding), repr(finding)
            for text in (finding.file, finding.rule, finding.reason, finding.remedy):
                assert text.strip(), f"{finding}: an empty text"
                assert "\n" not in text, f"{finding}: it is shown on one line"

    def test_findings_are_the_same_each_time(self) -> None:
        plugin = self.make_mistaken_plugin()
        assert list(plugin.lint()) == list(plugin.lint())
