"""What stops a flash."""


class FlashError(Exception):
    """The text is one sentence with the cure, without its full stop; `code` is the command's exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code
