"""Every failure a user can cause, as one coded error: what, where, why, and what to do.

Codes: `T` tracing a torch model, `M` reading or writing a model file, `U` use of the interface,
`V` verification, `S` the store, `B` a backend, `G` generation, `W` a folder for the web.
"""

EXIT_FAILED_CHECK = 1
EXIT_BAD_INPUT = 2
EXIT_UNSUPPORTED = 3
EXIT_INTERRUPTED = 130


class TamagoError(Exception):
    """An error the user can act on; the command line prints it without a traceback.

    Args:
        code: letter and number, such as `M002`; stable between releases.
        what: one clause that says what went wrong.
        where: the node, input, file or option concerned; empty when there is no place.
        why: the reason, when it is not the same as `what`.
        todo: what the user can do next.
        exit_code: the process' exit code on the command line.
    """

    def __init__(
        self, code: str, what: str, *, where: str = "", why: str = "", todo: str = "", exit_code: int = EXIT_BAD_INPUT
    ) -> None:
        self.code, self.what, self.where, self.why, self.todo, self.exit_code = code, what, where, why, todo, exit_code
        head = f"error[{code}]: {what}" + (f" — {where}" if where else "")
        lines = [head] + [f"  {label}: {text}" for label, text in (("why", why), ("to do", todo)) if text]
        super().__init__("\n".join(lines))
