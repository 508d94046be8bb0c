"""What is wrong with a patch."""


class PatchError(ValueError):
    """Raised for a patch that is wrong, or does not apply."""

    def __init__(self, reason: str, code: int) -> None:
        """`reason` is what the server finds, `code` the status that it answers with."""
        super().__init__(reason)
        self.code = code

    @property
    def message(self) -> str:
        """What the server answers. For 422 it keeps the reason to itself, and says `reason: Invalid`."""
        return "the server rejected our request due to an error in our request" if self.code == 422 else str(self)
