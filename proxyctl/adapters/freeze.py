"""The freeze switch of a project is a file: while it is there, no rollout starts, nor is led on by hand."""

from __future__ import annotations

import json

from proxyctl.adapters.durable import put_once, told_in_words
from proxyctl.adapters.places import Places
from proxyctl.domain.codec import decode, encode
from proxyctl.ports import Frozen


class FreezeFile:
    """Implements `Freeze`."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def read(self) -> Frozen | None:
        try:
            text = self._places.frozen.read_text()
        except FileNotFoundError:
            return None
        try:
            found: Frozen = decode(Frozen, json.loads(text))
        except ValueError:  # somebody made the file, and will have meant it
            return Frozen(actor="somebody's hand", reason="", since=self._places.frozen.stat().st_mtime)
        return found

    def put(self, frozen: Frozen) -> Frozen:
        with told_in_words(self._places.root):
            put_once(self._places.frozen, json.dumps(encode(frozen)))
        return self.read() or frozen

    def lift(self) -> Frozen | None:
        was = self.read()
        with told_in_words(self._places.root):
            self._places.frozen.unlink(missing_ok=True)
        return was
