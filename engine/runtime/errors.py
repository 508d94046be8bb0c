"""What keeps the daemon from running, each a sentence that says what to do."""


class SettingsError(ValueError):
    """Raised when settings make no sense; names the file and the setting."""


class LeaseLostError(RuntimeError):
    """Raised when a Lease could not be renewed in time: another may be writing now."""


class WrongClusterError(RuntimeError):
    """Raised when the store is of another cluster than the one that was reached."""
