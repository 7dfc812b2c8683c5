"""XMP packets in every place, encoding and length, and damaged ones read value by value."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ingest.images.metadata.xmp_packets import MAX_XMP_BYTES
from tests.photographs import DJI, capture, extended_segments, jpeg, packet, photograph, segment, texts, xmp_segment

GOOD = packet('drone-dji:RelativeAltitude="+50.00" drone-dji:GimbalPitchDegree="-90.00"')
GUID = b"0123456789ABCDEF0123456789ABCDEF"
NOTE = 'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + GUID.decode() + '"'


def element(content: str, attributes: str = "") -> str:
    """The height as an element."""
    return f"<drone-dji:RelativeAltitude{attributes}>{content}</drone-dji:RelativeAltitude>"


def height(data: bytes) -> float | None:
    camera = capture(data).camera
    return None if camera is None else camera.altitude_m


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        packet("", "<drone-dji:RelativeAltitude> +50.00 </drone-dji:RelativeAltitude>"),
        packet("", element("<rdf:Seq><rdf:li>50</rdf:li><rdf:li>70</rdf:li></rdf:Seq>")),
        packet("", '<drone-dji:RelativeAltitude rdf:value="50"/>'),
        packet("", element("<rdf:value>50</rdf:value>", ' rdf:parseType="Resource"')),
        packet('d:RelativeAltitude="50"', prefix="d"),
        packet('exif:RelativeAltitude="50"', prefix="exif"),
        packet('d:RelativeAltitude="50"', prefix="d", uri="https://dji.com/drone-dji/1.1"),
        packet('drone-dji:RelativeAltitude="50"').replace("rdf:", "r:").replace("xmlns:rdf", "xmlns:r"),
        packet('drone-dji:RelativeAltitude="50"').replace("x:xmpmeta", "xmpmeta"),
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>' + GOOD + " " * 2000 + '<?xpacket end="w"?>',
        '<?xml version="1.0" encoding="UTF-16"?>' + GOOD,
        "\n\0" + GOOD + "\0\0",
        packet('xmlns:a="http://a/" a:RelativeAltitude="70"') + GOOD,
        packet(f'xmlns:a="http://a/" a:RelativeAltitude="70" xmlns:drone="{DJI}" drone:RelativeAltitude="50"'),
    ],
)
def test_every_spelling_of_a_property_is_read(text: str) -> None:
    found = capture(jpeg(xmp_segment(text)))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert found.warnings == ()


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]
)
def test_every_encoding_of_unicode_is_read(encoding: str) -> None:
    assert height(jpeg(xmp_segment(GOOD.encode(encoding)))) == 50.0


@pytest.mark.parametrize(
    "text",
    [
        packet("", element("50") + "<drone-dji:Note>Road & Rail</drone-dji:Note>"),
        packet('rdf:about="Road & Rail" drone-dji:RelativeAltitude="50"'),
        packet('drone-dji:RelativeAltitude="50" drone-dji:RelativeAltitude="50"'),
        packet('unbound:Name="1" drone-dji:RelativeAltitude="50"'),
        packet('drone-dji:RelativeAltitude="50"').replace(f'xmlns:drone-dji="{DJI}"', ""),
        packet("d:RelativeAltitude='50' d:Note='a < b'", prefix="d"),
        packet('drone-dji:RelativeAltitude="50"')[:-20],
        packet('drone-dji:RelativeAltitude="50" drone-dji:Model="\x01\x02"'),
        '<!-- drone-dji:RelativeAltitude="70" --><a>&' + packet('drone-dji:RelativeAltitude="50"'),
        "<!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + packet('drone-dji:RelativeAltitude="50"'),
        packet('drone-dji:RelativeAltitude="50"', "<drone-dji:Many/>" * 3000),
    ],
)
def test_malformed_packet_is_read_value_by_value_and_warns(text: str) -> None:
    found = capture(jpeg(xmp_segment(text)))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert "read one by one: drone-dji:RelativeAltitude" in texts(found)


@pytest.mark.parametrize(
    "text",
    [
        "not xml at all http://www.dji.com/drone-dji/1.0/",
        "<!DOCTYPE x [<!ENTITY b '50'>]>" + packet('drone-dji:RelativeAltitude="&b;"'),
        packet('d:RelativeAltitude="50"', prefix="d", uri="http://example.org/") + "<&",
        packet("", "<drone-dji:Other><drone-dji:RelativeAltitude>50</drone-dji:RelativeAltitude></drone-dji:Other>"),
    ],
)
def test_text_that_is_no_value_stays_unknown(text: str) -> None:
    assert height(jpeg(xmp_segment(text))) is None


def test_second_packet_adds_values_and_contradictions_warn() -> None:
    adobe = packet('a:Rating="1"', prefix="a", uri="http://a/")
    assert height(jpeg(xmp_segment(adobe), xmp_segment(GOOD))) == 50.0
    assert height(jpeg(xmp_segment(adobe + GOOD))) == 50.0
    other = packet('drone-dji:RelativeAltitude="+80.00"')
    found = capture(jpeg(xmp_segment(GOOD), xmp_segment(other)))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert "several values of drone-dji:RelativeAltitude; the first was used" in texts(found)


def test_packet_without_the_segment_s_name_is_read() -> None:
    assert height(jpeg(segment(GOOD.encode()))) == 50.0


@pytest.mark.parametrize("reverse", [False, True])
def test_extended_xmp_is_joined_by_guid_and_offset(reverse: bool) -> None:
    text = packet('drone-dji:RelativeAltitude="+50.00"', f"<drone-dji:Data>{'A' * 100_000}</drone-dji:Data>").encode()
    parts = extended_segments(GUID, text)
    assert len(parts) == 2
    stranger = extended_segments(b"F" * 32, packet('drone-dji:RelativeAltitude="+80"').encode())
    found = capture(jpeg(xmp_segment(packet(NOTE)), *stranger, *(parts[::-1] if reverse else parts)))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert found.warnings == ()


def test_extended_xmp_with_a_gap_or_without_a_name_warns() -> None:
    text = packet('drone-dji:RelativeAltitude="+50.00"', f"<drone-dji:Data>{'A' * 100_000}</drone-dji:Data>").encode()
    first, _, last = extended_segments(GUID, text, 40_000)
    found = capture(jpeg(xmp_segment(packet(NOTE)), first, last))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert f"only 40000 of {len(text)} bytes" in texts(found)
    assert "does not name it" in texts(capture(jpeg(xmp_segment(GOOD), first)))


HEAD = '<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:d="http://www.dji.com/drone-dji/1.0/">'


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "<a>" * 150_000,
        HEAD + "<a " + " ".join(f'xmlns:p{number}="u"' for number in range(30_000)) + "/>",
        HEAD + "&<!--" * 100_000,
        HEAD + "&" + ":RelativeAltitude" * 30_000,
        HEAD + "&" + "xmlns:" * 80_000,
        HEAD + "<d:RelativeAltitude>" + "&#49;" * 100_000,
        "<?" * 250_000,
        "<a/>" * 130_000,
        HEAD + "\n" * 500_000,
    ],
    ids=["nested", "namespaces", "comments", "names", "declarations", "references", "instructions", "roots", "lines"],
)
def test_hostile_packets_cost_little_time(text: str) -> None:
    parts = extended_segments(GUID, text.encode()[:MAX_XMP_BYTES])
    data = jpeg(xmp_segment(packet(NOTE)), *parts)
    started = time.process_time()
    capture(data)
    # The worst takes a hundredth of a second; anything quadratic would take minutes.
    assert time.process_time() - started < 1


def test_long_packet_is_read_value_by_value_and_warns() -> None:
    text = packet("", f"<drone-dji:Data>{'A' * 150_000}</drone-dji:Data>" + element("+50.00")).encode()
    found = capture(jpeg(xmp_segment(packet(NOTE)), *extended_segments(GUID, text)))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert "more than 131072 bytes); read one by one: drone-dji:RelativeAltitude" in texts(found)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_damaged_characters_do_not_hide_values(encoding: str) -> None:
    damaged = {"utf-8": b"\xff\xff\xff\xff"}.get(encoding, b"\xd8\xd8\xd8\xd8")
    start, end = GOOD.split(" drone-dji:Gimbal")
    text = start.encode(encoding) + damaged + f" drone-dji:Gimbal{end}".encode(encoding)
    assert height(jpeg(xmp_segment(text))) == 50.0


def test_more_xmp_than_the_limit_is_read_up_to_it_and_warns() -> None:
    text = packet('drone-dji:RelativeAltitude="+50.00"', "x" * MAX_XMP_BYTES).encode()
    found = capture(jpeg(xmp_segment(packet(NOTE)), *extended_segments(GUID, text)))
    assert found.camera is not None
    assert found.camera.altitude_m == 50.0
    assert f"extended XMP has {len(text)} bytes" in texts(found)


def test_packets_beyond_the_limit_warn() -> None:
    found = capture(jpeg(*[xmp_segment(GOOD)] * 12))
    assert "more XMP than is read" in texts(found)


@pytest.mark.parametrize(
    ("keyword", "compressed"),
    [("XML:com.adobe.xmp", True), ("Raw profile type exif", True), ("Raw profile type APP1", False)],
)
def test_packed_metadata_of_a_png_warn(keyword: str, compressed: bool) -> None:
    texts_of_png = PngInfo()
    if keyword.startswith("XML"):
        texts_of_png.add_itxt(keyword, GOOD, zip=compressed)
    else:
        texts_of_png.add_text(keyword, "exif 6", zip=compressed)
    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "PNG", pnginfo=texts_of_png)
    found = capture(out.getvalue())
    assert found.camera is None
    assert "which is not read" in texts(found)


def test_warnings_are_short_and_without_control_characters() -> None:
    found = capture(photograph(xmp=packet(f'drone-dji:RelativeAltitude="{"&#x9b;" + "x" * 200}"')))
    (warning,) = found.warnings
    assert len(warning.text) < 200
    assert warning.text.isprintable()
