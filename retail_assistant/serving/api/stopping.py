"""Stop sequences, found in text that comes in pieces."""

from collections.abc import Sequence


class Stopping:
    """Passes text on until a stop sequence begins; holds back what may be the beginning of one."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = sequences
        self._held = ""
        self.has_stopped = False

    def passed(self, piece: str) -> str:
        """What of the text so far is certain to stand before any stop sequence."""
        if self.has_stopped:
            return ""
        text = self._held + piece
        # The one that is whole first counts, however the text is cut into pieces.
        starts = {one: text.index(one) for one in self._sequences if one in text}
        if starts:
            self.has_stopped, self._held = True, ""
            _end, start = min((start + len(one), start) for one, start in starts.items())
            return text[:start]
        certain = len(text) - self._possible(text)
        self._held = text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        return held

    def _possible(self, text: str) -> int:
        """Length of the longest end of the text that a stop sequence begins with."""
        longest = max((len(one) - 1 for one in self._sequences), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(one.startswith(text[-length:]) for one in self._sequences):
                return length
        return 0
