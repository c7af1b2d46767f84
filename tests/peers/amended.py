"""Compares files before and after an amendment, as pydicom reads them.

    amended.py LIST

LIST has one JSON object a line: before, after (paths), changes (keyword to new text), utf8 (whether
all text was written anew). Prints what is wrong, one line each, then how many pairs were compared.
"""

import json
import sys
import warnings

import pydicom

warnings.simplefilter("ignore")


# Of ISO 2022 IR 58, pydicom decodes the characters and leaves the escape sequence.
ESCAPE = "\x1b$)A"


def read(path):
    return pydicom.dcmread(path, force=True)


def shown(value):
    return str(value).replace(ESCAPE, "").rstrip(" \0")


def plain(element):
    """The value without what a writer of text may change: padding."""
    if element.VR == "SQ":
        return [[(one.tag, plain(one)) for one in item if one.tag != 0x00080005] for item in element.value]
    if isinstance(element.value, str) or element.VR == "PN":
        return shown(element.value)
    return element.value


def raw(data_set, tag):
    element = data_set.get_item(tag)
    value = element.value
    if isinstance(value, bytes):
        return value
    return plain(data_set[tag])


def compare(pair):
    before, after = read(pair["before"]), read(pair["after"])
    changed = {pydicom.datadict.tag_for_keyword(word): text for word, text in pair["changes"].items()}
    for tag in before.keys():
        if tag in changed or tag == 0x04000561 or tag.element == 0:
            continue
        if pair["utf8"] and tag == 0x00080005:
            continue
        if tag not in after:
            yield f"{tag} is gone"
            continue
        if pair["utf8"]:
            try:
                old = plain(before[tag])
            except Exception:
                continue
            if old != plain(after[tag]):
                yield f"{tag} was {old!r}, is {plain(after[tag])!r}"
        elif raw(before, tag) != raw(after, tag):
            yield f"{tag} is not what it was"
    for tag in after.keys():
        if tag not in before and tag not in changed and tag not in (0x04000561, 0x00080005):
            yield f"{tag} came from nowhere"
    for tag, text in changed.items():
        found = shown(after[tag].value)
        if found != text:
            yield f"{tag} is {found!r}, not {text!r}"
    items = after[0x04000561].value
    count = len(before[0x04000561].value) if 0x04000561 in before else 0
    if len(items) != count + 1:
        yield f"{len(items)} items of original attributes, {count} before"
    last = items[-1]
    if last.ReasonForTheAttributeModification != "CORRECT" or last.ModifyingSystem != "KURA":
        yield "the item does not say who and why"
    old = last.ModifiedAttributesSequence[0]
    for tag in changed:
        if tag in before and before[tag].value:
            was, kept = before.get_item(tag).value, old.get_item(tag).value
            if isinstance(was, bytes) and isinstance(kept, bytes):
                if was != kept:
                    yield f"the old {tag} is kept as {kept!r}, it was {was!r}"
            elif str(before[tag].value).rstrip() != str(old[tag].value).rstrip():
                yield f"the old {tag} is kept as {old[tag].value!r}, it was {before[tag].value!r}"


def main():
    count = 0
    with open(sys.argv[1], encoding="utf-8") as pairs:
        for line in pairs:
            pair = json.loads(line)
            try:
                list(read(pair["before"]).keys())
            except Exception as error:
                print(f"not read: {pair['before']}: {error}", file=sys.stderr)
                continue
            try:
                for wrong in compare(pair):
                    print(f"{pair['before']}: {wrong}")
            except Exception as error:
                print(f"{pair['before']}: {type(error).__name__}: {error}")
            count += 1
    print(f"compared {count}")


main()
