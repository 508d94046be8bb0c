"""What may come of an expression other than true or false.

ExpressionError
├── InvalidExpressionError   it does not compile: only a person can help
├── EvaluationError          it has no result for these objects: others may give one
└── EvaluatorError           it was not evaluated to the end: worth another try, later
"""


class ExpressionError(Exception):
    """Raised when an expression gives neither true nor false. Its message is for the person who wrote it."""


class InvalidExpressionError(ExpressionError):
    """Raised when an expression does not compile, or cannot give true or false whatever the objects are."""


class EvaluationError(ExpressionError):
    """Raised when an expression has no result for the objects given: a field that is missing, say."""


class EvaluatorError(ExpressionError):
    """Raised when an expression takes too long or too much memory, or its process died."""
