"""What goes wrong with a chart."""


class ChartError(Exception):
    """A chart could not be rendered.

    Attributes:
        message: what happened, where (chart, file, line), and what to do; without a secret value that was made known.
        final: whether the inputs alone explain it, so that another try gives the same; False for a limit.
        limit: the limit that was met, as a sentence; empty when none was.
    """

    def __init__(self, message: str, *, final: bool = True, limit: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.final = final
        self.limit = limit


class ValuesError(ValueError):
    """Values that cannot be read or merged. It quotes keys and places, and never a value."""


class RecordError(ValueError):
    """A release record that cannot be read."""


class RecordExistsError(Exception):
    """A record of that revision is there already: somebody else, or we before, acted on the release."""


class RecordTooLargeError(Exception):
    """A release record that no Secret can hold."""
