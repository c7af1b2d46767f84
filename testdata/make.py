#!/usr/bin/env python3
"""Makes the DICOM files of this folder.

    target/venv/bin/python testdata/make.py

Every patient is invented, every pixel is computed, every UID is fixed, so that
a second run writes the same files (compressed ones as long as zlib and Pillow
stay at the pinned versions). README.md says what each file is for; `bad/` holds
data sets that a server must refuse and survive.
"""

import io
import re
import struct
import sys
import uuid
import warnings
from pathlib import Path

import numpy
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

HERE = Path(__file__).resolve().parent

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"
GE_PRIVATE = "1.2.840.113619.5.2"

CR_CLASS = "1.2.840.10008.5.1.4.1.1.1"
DX_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
US_MULTI_CLASS = "1.2.840.10008.5.1.4.1.1.3.1"
MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
US_CLASS = "1.2.840.10008.5.1.4.1.1.6.1"
SC_CLASS = "1.2.840.10008.5.1.4.1.1.7"
XC_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.4"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"
PDF_CLASS = "1.2.840.10008.5.1.4.1.1.104.1"
PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
# Nobody's: stands for a class that only its maker knows.
PRIVATE_CLASS = "2.25.141873653261923147102397312354780152301.1"

NAMESPACE = uuid.UUID("6f3c2a52-5b1c-4d0e-9d52-9b1a7d6f1e01")


def uid(name):
    """A fixed UID for a name (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(NAMESPACE, name).int}"


def meta(sop_class, sop_instance, transfer_syntax):
    info = FileMetaDataset()
    info.FileMetaInformationVersion = b"\x00\x01"
    info.MediaStorageSOPClassUID = sop_class
    info.MediaStorageSOPInstanceUID = sop_instance
    info.TransferSyntaxUID = transfer_syntax
    info.ImplementationClassUID = uid("implementation")
    info.ImplementationVersionName = "KURA_TESTDATA"
    return info


def base(name, sop_class, modality, study=None, series=None, number=1):
    """An instance without pixels; `study` and `series` default to its own."""
    study = study or name
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid(f"instance {name}")
    ds.StudyInstanceUID = uid(f"study {study}")
    ds.SeriesInstanceUID = uid(f"series {series or study}")
    ds.StudyDate = "20260115"
    ds.SeriesDate = "20260115"
    ds.ContentDate = "20260115"
    ds.StudyTime = "101500"
    ds.SeriesTime = "101622"
    ds.ContentTime = "101622.25"
    ds.AccessionNumber = f"A{uuid.uuid5(NAMESPACE, study).int % 10**8:08d}"
    ds.Modality = modality
    ds.Manufacturer = "Kura test data"
    ds.InstitutionName = "Example Hospital"
    ds.ReferringPhysicianName = "Refer^Anna"
    ds.StationName = "STATION1"
    ds.StudyDescription = f"Study {study}"[:64]
    ds.SeriesDescription = f"Series {series or study}"[:64]
    ds.PatientName = "Example^Erika"
    ds.PatientID = f"P-{uuid.uuid5(NAMESPACE, study).int % 10**5:05d}"
    ds.PatientBirthDate = "19700229"
    ds.PatientSex = "F"
    ds.StudyID = "1"
    ds.SeriesNumber = "1"
    ds.InstanceNumber = str(number)
    return ds


def gray(ds, rows=64, columns=64, bits=12, frames=1, seed=0):
    """Pixels of a computed pattern, different for each seed."""
    y, x = numpy.mgrid[0:rows, 0:columns]
    frame = ((x * 37 + y * 61 + seed * 97) ^ (x * y)) & ((1 << bits) - 1)
    dtype = "<u2" if bits > 8 else "u1"
    pixels = numpy.stack([(frame + 5 * n) & ((1 << bits) - 1) for n in range(frames)])
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = 16 if bits > 8 else 8
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = 0
    if frames > 1:
        ds.NumberOfFrames = str(frames)
    ds.PixelData = pixels.astype(dtype).tobytes()
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    return ds


def colour_jpeg(ds, rows=64, columns=64):
    y, x = numpy.mgrid[0:rows, 0:columns]
    rgb = numpy.stack([x * 4, y * 4, (x + y) * 2], axis=-1).astype("u1")
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=80)
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelRepresentation = 0
    ds.LossyImageCompression = "01"
    opaque(ds, stream.getvalue())
    return ds


def opaque(ds, *streams):
    ds.PixelData = encapsulate(list(streams))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def encode(ds, transfer_syntax):
    """A whole Part-10 file."""
    ds.file_meta = meta(ds.SOPClassUID, ds.SOPInstanceUID, transfer_syntax)
    out = io.BytesIO()
    dcmwrite(
        out,
        ds,
        implicit_vr=transfer_syntax in (IMPLICIT_LE, GE_PRIVATE),
        little_endian=transfer_syntax != EXPLICIT_BE,
        enforce_file_format=True,
    )
    return out.getvalue()


def data_set(ds, transfer_syntax):
    """The bytes of a data set alone, explicit or implicit little endian."""
    plain = Dataset()  # without a file meta that `ds` may have by now
    plain.update(ds)
    out = io.BytesIO()
    dcmwrite(
        out,
        plain,
        implicit_vr=transfer_syntax == IMPLICIT_LE,
        little_endian=True,
        force_encoding=True,
    )
    return out.getvalue()


def around(ds, transfer_syntax, body):
    """A Part-10 file with `body`, whatever that is, as its data set."""
    shell = Dataset()
    shell.SOPClassUID, shell.SOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    whole = encode(shell, transfer_syntax)
    return whole[: len(whole) - len(data_set(shell, transfer_syntax))] + body


def element(group, number, vr, value, length=None):
    """One element in explicit VR little endian, with any length one likes."""
    length = len(value) if length is None else length
    head = struct.pack("<HH", group, number) + vr.encode()
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + struct.pack("<HI", 0, length) + value
    return head + struct.pack("<H", length) + value


def item(body, length=None):
    head = struct.pack("<HHI", 0xFFFE, 0xE000, len(body) if length is None else length)
    return head + body


ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
UNDEFINED = 0xFFFFFFFF


def code(value, scheme, meaning):
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def formats():
    """One CT study, one series: each instance in another transfer syntax."""
    def ct(name, number):
        ds = base(name, CT_CLASS, "CT", study="formats", number=number)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.BodyPartExamined = "CHEST"
        ds.KVP = "120"
        return gray(ds, seed=number)

    yield "ct-explicit-le", encode(ct("ct-explicit-le", 1), EXPLICIT_LE)
    yield "ct-implicit-le", encode(ct("ct-implicit-le", 2), IMPLICIT_LE)
    yield "ct-explicit-be", encode(ct("ct-explicit-be", 3), EXPLICIT_BE)
    yield "ct-deflated", encode(ct("ct-deflated", 4), DEFLATED)
    ds = ct("ct-rle", 5)
    ds.file_meta = meta(CT_CLASS, ds.SOPInstanceUID, EXPLICIT_LE)
    ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    yield "ct-rle", encode(ds, RLE)
    # Not real codestreams: an archive must carry what it cannot decode.
    ds = ct("ct-jpeg-ls", 6)
    opaque(ds, b"\xff\xd8\xff\xf7" + bytes(range(1, 200)) * 9 + b"\xff\xd9")
    yield "ct-jpeg-ls", encode(ds, JPEG_LS)
    ds = ct("ct-jpeg-2000", 7)
    opaque(ds, b"\xff\x4f\xff\x51" + bytes(range(1, 200)) * 7 + b"\xff\xd9")
    yield "ct-jpeg-2000", encode(ds, JPEG_2000)
    ds = ct("ct-fragments", 8)
    # Two frames, the first in two fragments, with an empty offset table.
    half = bytes(range(1, 101)) * 4
    ds.NumberOfFrames = "2"
    ds.PixelData = (
        item(b"") + item(b"\xff\x4f\xff\x51" + half) + item(half + b"\xff\xd9")
        + item(b"\xff\x4f\xff\x51" + half + b"\xff\xd9")
    )
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    yield "ct-fragments", encode(ds, JPEG_2000)


def modalities():
    ds = gray(base("mr", MR_CLASS, "MR"), seed=11)
    ds.BodyPartExamined, ds.ProtocolName = "BRAIN", "T1 axial"
    ds.MagneticFieldStrength = "3"
    yield "mr", encode(ds, EXPLICIT_LE)
    ds = gray(base("cr", CR_CLASS, "CR"), rows=96, columns=80, bits=10, seed=12)
    ds.BodyPartExamined, ds.ViewPosition, ds.Laterality = "HAND", "PA", "L"
    yield "cr", encode(ds, IMPLICIT_LE)
    ds = gray(base("dx", DX_CLASS, "DX"), rows=96, columns=96, bits=14, seed=13)
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PatientID = "0000012345"
    yield "dx", encode(ds, EXPLICIT_LE)
    ds = gray(base("us-multiframe", US_MULTI_CLASS, "US"), bits=8, frames=6, seed=14)
    ds.FrameTime = "40"
    ds.FrameIncrementPointer = 0x00181063
    yield "us-multiframe", encode(ds, EXPLICIT_LE)
    yield "us-jpeg", encode(colour_jpeg(base("us-jpeg", US_CLASS, "US")), JPEG_BASELINE)
    yield "xc-jpeg", encode(colour_jpeg(base("xc-jpeg", XC_CLASS, "XC")), JPEG_BASELINE)

    ds = base("sr", SR_CLASS, "SR")
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ConceptNameCodeSequence = [code("11528-7", "LN", "Radiology Report")]
    finding = Dataset()
    finding.RelationshipType, finding.ValueType = "CONTAINS", "TEXT"
    finding.ConceptNameCodeSequence = [code("121071", "DCM", "Finding")]
    finding.TextValue = "Nothing to report on a patient who does not exist."
    ds.ContentSequence = [finding]
    yield "sr", encode(ds, EXPLICIT_LE)

    ds = base("pdf", PDF_CLASS, "DOC")
    ds.ConversionType, ds.DocumentTitle = "WSD", "Report"
    ds.BurnedInAnnotation = "NO"
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.ConceptNameCodeSequence = Sequence([])
    text = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    ds.EncapsulatedDocument = text + b"\x00" * (len(text) % 2)
    yield "pdf", encode(ds, EXPLICIT_LE)

    for modality, sop_class, number in (("CT", CT_CLASS, 1), ("PT", PET_CLASS, 2)):
        for image in (1, 2):
            name = f"petct-{modality.lower()}-{image}"
            ds = base(name, sop_class, modality, "petct", f"petct {modality}", image)
            ds.SeriesNumber = str(number)
            ds.FrameOfReferenceUID = uid("frame of reference petct")
            yield name, encode(gray(ds, seed=20 + number * 2 + image), EXPLICIT_LE)


def private_and_nested():
    ds = gray(base("private-syntax", CT_CLASS, "CT"), seed=31)
    # GE's syntax: implicit little endian, pixel data big endian.
    ds.PixelData = numpy.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    yield "private-syntax", encode(ds, GE_PRIVATE)

    ds = base("private-class", PRIVATE_CLASS, "OT")
    block = ds.private_block(0x0029, "KURA TEST 1.0", create=True)
    block.add_new(0x01, "LO", "a private value")
    block.add_new(0x02, "OB", bytes(range(256)) * 4)
    yield "private-class", encode(ds, EXPLICIT_LE)

    def nested(name, depth, undefined):
        ds = gray(base(name, MR_CLASS, "MR"), 32, 32, seed=depth)
        inner = Dataset()
        inner.StudyInstanceUID = uid("study that is only referred to")
        inner.PatientID = "NOT-THIS-ONE"
        for level in range(depth):
            outer = Dataset()
            outer.ReferencedSeriesSequence = [inner, Dataset()]
            outer.SeriesInstanceUID = uid(f"series at depth {level}")
            outer["ReferencedSeriesSequence"].is_undefined_length = undefined
            for part in outer.ReferencedSeriesSequence:
                part.is_undefined_length_sequence_item = undefined
            inner = outer
        ds.ReferencedStudySequence = [inner]
        ds["ReferencedStudySequence"].is_undefined_length = undefined
        inner.is_undefined_length_sequence_item = undefined
        return ds

    yield "nested-sequences", encode(nested("nested-sequences", 12, False), EXPLICIT_LE)
    yield "nested-undefined", encode(nested("nested-undefined", 12, True), EXPLICIT_LE)
    yield (
        "nested-undefined-implicit",
        encode(nested("nested-undefined-implicit", 12, True), IMPLICIT_LE),
    )

    # UN of undefined length: its items are in implicit VR whatever the syntax (PS3.5 6.2.2).
    ds = gray(base("undefined-un", CT_CLASS, "CT"), 32, 32, seed=33)
    inner = Dataset()
    inner.PatientID = "NOT-THIS-ONE"
    inner.StudyInstanceUID = uid("study inside a UN")
    head, tail = Dataset(), Dataset()
    for part in ds:
        (head if part.tag.group < 0x0029 else tail).add(part)
    un = item(data_set(inner, IMPLICIT_LE), UNDEFINED) + ITEM_END + SEQUENCE_END
    body = (
        data_set(head, EXPLICIT_LE)
        + element(0x0029, 0x0010, "LO", b"KURA TEST 1.0 ")
        + element(0x0029, 0x1010, "UN", un, UNDEFINED)
        + data_set(tail, EXPLICIT_LE)
    )
    yield "undefined-un", around(ds, EXPLICIT_LE, body)


# PS3.5 Annexes H, I, J and K print many of these names.
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
JAPANESE_KANA = "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"
KOREAN = "Hong^Gildong=洪^吉洞=홍^길동"
NAMES = {
    "name-ja-87": (["", "ISO 2022 IR 87"], JAPANESE, "頭部単純撮影"),
    "name-ja-13": (["ISO 2022 IR 13", "ISO 2022 IR 87"], JAPANESE_KANA, "ﾄｳﾌﾞ 撮影"),
    "name-ja-utf8": ("ISO_IR 192", JAPANESE, "頭部単純撮影"),
    "name-zh-gb18030": ("GB18030", "Wang^XiaoDong=王^小东", "胸部检查"),
    "name-zh-58": (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东", "胸部检查"),
    "name-zh-utf8": ("ISO_IR 192", "Wang^XiaoDong=王^小東", "胸部檢查"),
    "name-ko-149": (["", "ISO 2022 IR 149"], KOREAN, "흉부"),
    "name-latin1": ("ISO_IR 100", "Müller^Zoë", "Schädel seitlich"),
    "name-latin2": ("ISO_IR 101", "Dvořák^Jiří", "Lebka zboku"),
    "name-greek": ("ISO_IR 126", "Διονυσιος", "Θώρακας"),
    "name-cyrillic": ("ISO_IR 144", "Люкceмбypг", "Грудная клетка"),
}
# PS3.5 H.3.1, H.3.2, I.2 and K.2, byte for byte.
PRINTED = {
    "name-ja-87": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    b"=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    "name-ja-13": b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
    b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    "name-ko-149": b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
    b"=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    "name-zh-58": b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
}


def with_escapes(text):
    """GB 2312 after its escape sequence; pydicom leaves the escape out."""
    return b"".join(
        part.encode() if part.isascii() else b"\x1b$)A" + part.encode("gb2312")
        for part in re.split("([=^])", text)
    )


def names():
    for name, (charset, person, description) in NAMES.items():
        ds = gray(base(name, CT_CLASS, "CT"), 16, 16, seed=len(name))
        ds.SpecificCharacterSet = charset
        ds.PatientName = person
        ds.StudyDescription = description
        if name == "name-zh-58":
            # Put in after encoding, in place of as many other characters.
            swaps = {
                mark * len(with_escapes(text)): with_escapes(text)
                for mark, text in (("@", person), ("#", description))
            }
            ds.PatientName, ds.StudyDescription = swaps
            whole = encode(ds, EXPLICIT_LE)
            for mark, escaped in swaps.items():
                assert whole.count(mark.encode()) == 1
                whole = whole.replace(mark.encode(), escaped)
        else:
            whole = encode(ds, EXPLICIT_LE)
        if name in PRINTED:
            assert PRINTED[name] in whole, name
        yield name, whole


def odd():
    def mr(name):
        return gray(base(name, MR_CLASS, "MR"), 16, 16, seed=len(name))

    ds = mr("no-patient-id")
    del ds.PatientID
    yield "no-patient-id", encode(ds, EXPLICIT_LE)
    ds = mr("empty-patient-id")
    ds.PatientID = ""
    yield "empty-patient-id", encode(ds, IMPLICIT_LE)
    ds = mr("no-modality")
    del ds.Modality
    yield "no-modality", encode(ds, EXPLICIT_LE)
    ds = mr("no-study-date")
    del ds.StudyDate
    yield "no-study-date", encode(ds, EXPLICIT_LE)
    ds = mr("empty-study-date")
    ds.StudyDate = ""
    yield "empty-study-date", encode(ds, EXPLICIT_LE)
    ds = mr("path-in-patient-id")
    ds.PatientID = "../../..//CON:*?"
    yield "path-in-patient-id", encode(ds, EXPLICIT_LE)
    ds = mr("long-patient-id")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientID = "患者番号" * 16
    yield "long-patient-id", encode(ds, EXPLICIT_LE)
    ds = mr("nothing-but-uids")
    bare = Dataset()
    for word in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(bare, word, getattr(ds, word))
    yield "nothing-but-uids", encode(bare, EXPLICIT_LE)

    # A group length (retired, and wrong), an illegal group, zeros at the end.
    ds = mr("group-lengths")
    head, tail = Dataset(), Dataset()
    for part in ds:
        (head if part.tag.group < 0x0020 else tail).add(part)
    first, last = data_set(head, EXPLICIT_LE), data_set(tail, EXPLICIT_LE)
    body = element(0x0008, 0x0000, "UL", struct.pack("<I", len(first))) + first
    yield "group-lengths", around(ds, EXPLICIT_LE, body + last)
    ds = mr("odd-group")
    body = element(0x0003, 0x0010, "LO", b"junk of a console ")
    yield "odd-group", around(ds, EXPLICIT_LE, body + data_set(ds, EXPLICIT_LE))
    ds = mr("trailing-zeros")
    yield "trailing-zeros", around(ds, EXPLICIT_LE, data_set(ds, EXPLICIT_LE) + bytes(64))

    ds = mr("odd-length-uid")
    ds.SOPInstanceUID = "2.25.123456789012345678901234567"
    head, tail = Dataset(), Dataset()
    for part in ds:
        if part.tag != 0x00080018:
            (head if part.tag < 0x00080018 else tail).add(part)
    odd_uid = b"2.25.12345678901234567890123456"
    assert len(odd_uid) % 2 == 1
    ds.SOPInstanceUID = odd_uid.decode()
    body = element(0x0008, 0x0018, "UI", odd_uid)
    body = data_set(head, EXPLICIT_LE) + body + data_set(tail, EXPLICIT_LE)
    yield "odd-length-uid", around(ds, EXPLICIT_LE, body)

    ds = mr("letters-in-uid")
    for word, value in (
        ("SOPInstanceUID", "2.25.7.Image_A"),
        ("SeriesInstanceUID", "2.25.7.007"),
    ):
        part = ds[word]
        part.validation_mode = 0
        part.value = value
    yield "letters-in-uid", encode(ds, EXPLICIT_LE)


def bad():
    def ct(name):
        return gray(base(name, CT_CLASS, "CT"), 16, 16, seed=len(name))

    ds = ct("no-study-uid")
    del ds.StudyInstanceUID
    yield "no-study-uid", encode(ds, EXPLICIT_LE)
    ds = ct("empty-series-uid")
    ds.SeriesInstanceUID = ""
    yield "empty-series-uid", encode(ds, EXPLICIT_LE)
    ds = ct("no-sop-uid")
    body = data_set(ds, EXPLICIT_LE)
    value = element(0x0008, 0x0018, "UI", ds.SOPInstanceUID.encode() + b"\0" * (len(ds.SOPInstanceUID) % 2))
    assert value in body
    yield "no-sop-uid", around(ds, EXPLICIT_LE, body.replace(value, b""))

    # Ends in the middle of the pixel data, and in the middle of an element header.
    ds = ct("truncated")
    yield "truncated", encode(ds, EXPLICIT_LE)[:-301]
    ds = ct("truncated-header")
    yield "truncated-header", around(ds, EXPLICIT_LE, data_set(ds, EXPLICIT_LE)[:-(512 + 5)])

    # 90 bytes that promise 1 GiB.
    ds = ct("lying-length")
    ds.SOPInstanceUID = "2.25.33"
    body = (
        element(0x0008, 0x0016, "UI", CT_CLASS.encode() + b"\0")
        + element(0x0008, 0x0018, "UI", b"2.25.33\0")
        + element(0x0009, 0x0010, "LO", b"KURA TEST 1.0 ")
        + element(0x0009, 0x1001, "OB", b"\0" * 6, 0x3FFFFFFE)
    )
    assert len(body) == 90, len(body)
    yield "lying-length", around(ds, EXPLICIT_LE, body)

    # An element that is longer than the item around it.
    ds = ct("lying-item")
    inner = element(0x0008, 0x1150, "UI", b"1.2.3\0", 0x4000)
    body = element(0x0008, 0x1140, "SQ", item(inner))
    whole = Dataset()
    for part in ds:
        if part.tag.group > 0x0008:
            whole.add(part)
    head = Dataset()
    for part in ds:
        if part.tag < 0x00081140:
            head.add(part)
    yield "lying-item", around(
        ds, EXPLICIT_LE, data_set(head, EXPLICIT_LE) + body + data_set(whole, EXPLICIT_LE)
    )

    ds = ct("nested-5000")
    head = Dataset()
    for part in ds:
        if part.tag < 0x00081140:
            head.add(part)
    depth = 5000
    opening = element(0x0008, 0x1140, "SQ", item(b"", UNDEFINED), UNDEFINED)
    body = opening * depth + (ITEM_END + SEQUENCE_END) * depth
    tail = Dataset()
    for part in ds:
        if part.tag.group > 0x0008:
            tail.add(part)
    yield "nested-5000", around(
        ds, EXPLICIT_LE, data_set(head, EXPLICIT_LE) + body + data_set(tail, EXPLICIT_LE)
    )
    # Not DICOM at all behind a proper file meta.
    ds = ct("garbage")
    noise = numpy.random.Generator(numpy.random.PCG64(7)).bytes(700)
    yield "garbage", around(ds, EXPLICIT_LE, noise)
    yield "empty", around(ct("empty"), EXPLICIT_LE, b"")


def main():
    # letters-in-uid is meant.
    warnings.filterwarnings("ignore", message="Invalid value for VR UI")
    (HERE / "bad").mkdir(exist_ok=True)
    total = 0
    for folder, makers in ((HERE, (formats, modalities, private_and_nested, names, odd)),
                           (HERE / "bad", (bad,))):
        for maker in makers:
            for name, whole in maker():
                (folder / f"{name}.dcm").write_bytes(whole)
                total += len(whole)
    print(f"{total} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
