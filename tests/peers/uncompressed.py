"""Compares images that were sent without compression with what pydicom makes of the stored files.

    uncompressed.py STORED RECEIVED

Both are folders; files of one SOP Instance UID belong together. Prints a line of JSON for each pair: the file, its
transfer syntax, the greatest difference of a sample ("difference", absent where pydicom cannot decode the stored
one), and "wrong": what else differs.
"""

import json
import logging
import pathlib
import sys
import warnings

import numpy
import pydicom
from pydicom.pixels import pixel_array

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
# What says how pixel data are written, and an icon that may be compressed.
ASIDE = {0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00003, 0x00880200, *PIXELS}


def differences(stored, received, where=""):
    """Public elements that are not there, or have another value."""
    wrong = []
    for element in stored:
        tag = element.tag
        if tag in ASIDE or tag.element == 0 or tag.is_private or tag.group <= 2:
            continue
        name = f"{where}{tag}"
        if tag not in received:
            wrong.append(f"{name} is missing")
            continue
        other = received[tag]
        if element.VR == "SQ" and other.VR == "SQ":
            if len(element.value) != len(other.value):
                wrong.append(f"{name} has {len(other.value)} items")
                continue
            for at, (one, two) in enumerate(zip(element.value, other.value)):
                wrong += differences(one, two, f"{name}[{at}].")
        elif element.VR == other.VR and element.value != other.value:
            same_bytes = isinstance(element.value, bytes) and bytes(element.value) == bytes(other.value)
            if not same_bytes:
                wrong.append(f"{name} is {str(other.value)[:40]!r}, not {str(element.value)[:40]!r}")
    for element in received:
        if element.tag not in stored and element.tag not in ASIDE:
            wrong.append(f"{where}{element.tag} was added")
    return wrong


def read(folder):
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            try:
                dataset = pydicom.dcmread(path)
                found.setdefault(str(dataset.SOPInstanceUID), (path, dataset))
            except Exception:
                pass
    return found


def main():
    stored, received = read(sys.argv[1]), read(sys.argv[2])
    for uid, (_, got) in received.items():
        if uid not in stored:
            print(json.dumps({"file": uid, "wrong": ["nothing is stored of it"]}))
            continue
        path, kept = stored[uid]
        line = {"file": path.name, "syntax": str(kept.file_meta.TransferSyntaxUID), "wrong": []}
        try:
            line["wrong"] = differences(kept, got)
            if any(tag in kept for tag in PIXELS):
                ours = pixel_array(got)
                # Of the decoders that it knows one, so that the tolerance is known.
                baseline = line["syntax"].endswith(".4.50")
                try:
                    theirs = pixel_array(kept, decoding_plugin="pillow" if baseline else "")
                except Exception as error:
                    line["undecoded"] = str(error)[:200]
                else:
                    if kept.get("PixelRepresentation") == 0 and ours.dtype.kind == "u":
                        # pydicom looks at the bits beyond Bits Stored of the one and not of the other.
                        used = (1 << kept.BitsStored) - 1
                        ours, theirs = ours & used, theirs & used
                    if ours.shape != theirs.shape:
                        line["wrong"].append(f"{ours.shape} is not {theirs.shape}")
                    else:
                        difference = ours.astype(numpy.float64) - theirs.astype(numpy.float64)
                        line["difference"] = float(numpy.abs(difference).max())
        except Exception as error:
            line["wrong"].append(repr(error)[:200])
        print(json.dumps(line))


main()
