#!/usr/bin/env python3
"""An SCP made with pynetdicom that is hard to please, as it is told.

    picky.py --port PORT [--calling TITLE] [--called] [--implicit] [--no-store] [--find HEX] [--sets SET,SET] [--move HEX]

--calling: takes associations of that calling AE title only. --called: of its own called AE title
(PICKY) only. --implicit: accepts Implicit VR Little Endian only. --no-store: no images. --find:
answers queries with that status; those in other character sets than --sets with C000H. --move:
answers C-MOVE with that status.
"""

import argparse

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, evt

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"


def status(text):
    return int(text, 16)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calling")
    parser.add_argument("--called", action="store_true")
    parser.add_argument("--implicit", action="store_true")
    parser.add_argument("--no-store", action="store_true")
    parser.add_argument("--find", type=status)
    parser.add_argument("--sets")
    parser.add_argument("--move", type=status)
    given = parser.parse_args()

    def find(event):
        asked = event.identifier
        named = asked.get("SpecificCharacterSet", "") or ""
        named = named if isinstance(named, str) else "\\".join(named)
        if given.sets is not None and named and named not in given.sets.split(","):
            yield 0xC000, None
            return
        yield given.find, None

    def move(event):
        # No destination at all: pynetdicom answers A801H by itself.
        if given.move == 0xA801:
            yield None, None
            return
        yield "127.0.0.1", given.port
        yield 0

    ae = AE("PICKY")
    if given.calling:
        ae.require_calling_aet = [given.calling]
    ae.require_called_aet = given.called
    syntaxes = [ImplicitVRLittleEndian]
    if not given.implicit:
        syntaxes.append(ExplicitVRLittleEndian)
    ae.add_supported_context("1.2.840.10008.1.1", syntaxes)
    if not given.no_store:
        for context in StoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, syntaxes)
    handlers = [(evt.EVT_C_STORE, lambda event: 0xA700)]
    if given.find is not None:
        ae.add_supported_context(FIND, syntaxes)
        handlers.append((evt.EVT_C_FIND, find))
    if given.move is not None:
        ae.add_supported_context(MOVE, syntaxes)
        handlers.append((evt.EVT_C_MOVE, move))
    ae.start_server(("127.0.0.1", given.port), evt_handlers=handlers)


main()
