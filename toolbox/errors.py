"""How a tool call goes wrong.

Exception
+-- ToolError   the call's answer is a refusal or a failure; the model reads it
+-- FilesAway   the files could not be reached: the call has no outcome, and may be made again
"""


class ToolError(Exception):
    """The message is for the model; `code` is a stable snake_case word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FilesAway(Exception):
    """The blob store failed; its own error is the cause. Never an outcome of the call."""
