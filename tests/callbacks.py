"""A reactor that knows one thing: calls from threads, made when the test waits for them."""

from queue import SimpleQueue


class Callbacks:
    def __init__(self):
        self.calls = SimpleQueue()
        self.turns = 0

    def callFromThread(self, call, *arguments):
        self.calls.put((call, arguments))

    def turn(self):
        """Make the next call, waiting for it."""
        call, arguments = self.calls.get(timeout=30)
        self.turns += 1
        call(*arguments)

    def wait(self, deferred):
        while not deferred.called:
            self.turn()
