"""The progress of a command on a terminal."""

import io

from samreg.cli_progress import ProgressLine


def test_a_terminal_gets_a_live_line():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    line = ProgressLine(stream)
    for fraction in (0.0, 0.5, 0.5):
        line("match", fraction)
    line.close()
    assert "\n" not in stream.getvalue()
    shown = [text.removesuffix("\x1b[K") for text in stream.getvalue().split("\r")]
    assert shown == ["", "match 0 %", "match 50 %", ""]
