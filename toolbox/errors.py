"""How a tool call goes wrong.

Exception
+-- ToolError   the call's answer is a refusal or a failure; the model reads it
+-- FilesAway   the files could not be reached: the call has no outcome, and may be made again
"""


class ToolError(Exception):
    """The message is for the model; `code` is a stable snake_case word for programs.

    `retryable`: the same call may go well a little later. `unsure`: what the call does may have happened all the same.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, unsure: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.unsure = unsure


class FilesAway(Exception):
    """The blob store failed; its own error is the cause. Never an outcome of the call."""
