"""What keeps the daemon, or a command, from doing what it was asked for: each a sentence that says what to do."""


class SettingsError(ValueError):
    """Raised when settings make no sense; names the file and the setting."""


class LeaseLostError(RuntimeError):
    """Raised when a Lease could not be renewed in time: another may be writing now."""


class WrongClusterError(RuntimeError):
    """Raised when the store is of another cluster than the one that was reached."""


class RefusedError(ValueError):
    """Raised for a request that cannot be carried out; says why, and what to do."""


class DoorError(Exception):
    """Raised when the daemon cannot be asked, or could not do what it took; the message is for people."""


class PreviewError(Exception):
    """Raised when no plan can be made: it says why, as the condition of the target would."""
