"""Reads texts in every character set as pydicom does.

    decoded.py LIST

LIST has lines of charset|codepoint|bytes in hex. Prints each line that pydicom reads as another
character, with what it read, then how many lines there were.
"""

import sys
import warnings

from pydicom.charset import convert_encodings, decode_bytes

warnings.simplefilter("ignore")

# Of ISO 2022 IR 58, pydicom decodes the characters and leaves the escape sequence.
ESCAPE = "\x1b$)A"

count = 0
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        charset, code, text = line.rstrip("\n").split("|")
        encodings = convert_encodings(charset.split("\\"))
        found = decode_bytes(bytes.fromhex(text), encodings, set()).replace(ESCAPE, "")
        if found != chr(int(code)):
            print(f"{charset}|{int(code):04X}|{found}")
        count += 1
print(f"compared {count}")
