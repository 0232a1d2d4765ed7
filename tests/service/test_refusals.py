"""Whatever a client sends: an answer in the envelope, never a 500."""

import asyncio
import gzip
import os
import random
import sys

import numpy as np
import pytest
from fastapi import Request

from service.errors import UploadTooSlow
from service.forms import read_form
from service.options import ClassifyOptions
from service.settings import Settings
from tests.factories import endless_jpeg
from tests.service.pictures import png, square

PICTURE = png(square(100, 120, 20, 30))


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["code"] == code
    assert error["message"]
    assert error["request_id"] == answer.headers["X-Request-ID"]
    return error["message"]


def part(name, content, *, file=False, raw_name=None):
    disposition = b'form-data; name="' + (raw_name or name.encode()) + b'"'
    disposition += b'; filename="a.png"' if file else b""
    head = b"--edge\r\nContent-Disposition: " + disposition + b"\r\n\r\n"
    return head + content + b"\r\n"


IMAGE = part("image", PICTURE, file=True)
MODEL = part("model", b"skin")
END = b"--edge--\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}


def post(client, body, content_type="multipart/form-data; boundary=edge", path="/classify"):
    return client.post(path, content=body, headers={"Content-Type": content_type})


def test_a_proper_form_is_answered(client):
    assert post(client, IMAGE + MODEL + END).status_code == 200


@pytest.mark.parametrize("kind", ["application/dicom", "Application/Octet-Stream", "image/png"])
def test_a_file_needs_no_name_where_its_kind_says_that_it_is_one(client, kind):
    answer = client.post(
        "/classify", files={"image": (None, PICTURE, kind), "model": (None, "skin")}
    )

    assert answer.status_code == 200, answer.text


def test_a_text_is_no_file_whatever_text_it_says_it_is(client):
    answer = client.post("/classify", files={"image": (None, PICTURE, "text/html")})

    assert "neither a file name nor" in refused(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/nowhere", "/classify/", "/web/nothing.js", "/docs", "/docs.json"]
)
def test_unknown_paths_answer_in_the_envelope(client, path):
    refused(client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/classify"), ("PUT", "/explain"), ("POST", "/models"), ("DELETE", "/")],
)
def test_wrong_methods_answer_in_the_envelope(client, method, path):
    answer = client.request(method, path)

    refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (MODEL + END, 400, "bad_request"),
        (IMAGE + IMAGE + MODEL + END, 400, "bad_request"),
        (part("image", b"", file=True) + MODEL + END, 400, "bad_request"),
        (part("image", b"http://127.0.0.1/a.png") + MODEL + END, 400, "bad_request"),
        (part("image", PICTURE) + MODEL + END, 400, "bad_request"),
        (IMAGE + MODEL + MODEL + END, 400, "bad_option"),
        (IMAGE + part("imgae", b"1") + END, 400, "bad_option"),
        (IMAGE + part("model", b"skin", file=True) + END, 400, "bad_option"),
        (IMAGE + part("model", b"\xff\xfe") + END, 400, "bad_option"),
        (IMAGE + part("", b"1", raw_name=b"\xff") + END, 400, "bad_option"),
        (IMAGE + part("model", b"x" * 2000) + END, 400, "bad_option"),
        (IMAGE + part("model", b"") + END, 400, "bad_option"),
        (IMAGE + part("model", b"sk\x00in") + END, 404, "model_not_found"),
        (IMAGE + part("model", b"../skin") + END, 404, "model_not_found"),
        (IMAGE + MODEL, 400, "bad_request"),
        (IMAGE[:60], 400, "bad_request"),
        (b"", 400, "bad_request"),
        (b"nonsense", 400, "bad_request"),
        (b"--edge\r\n\r\nno headers\r\n" + END, 400, "bad_request"),
        (b"--edge\r\nContent-Disposition: attachment\r\n\r\nx\r\n" + END, 400, "bad_request"),
    ],
    ids=[
        *("no image", "image twice", "image empty", "image an address", "image as text"),
        *("option twice", "unknown field", "option as file", "option not UTF-8", "name not UTF-8"),
        *("option too long", "option empty", "NUL in option", "path as option"),
        *("no last boundary", "cut off", "empty body", "no form", "no headers", "no name"),
    ],
)
def test_a_bad_form_is_refused(client, body, status, code):
    refused(post(client, body), status, code)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/vnd.bentoml+pickle",
        "application/x-www-form-urlencoded",
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 300,
        "multipart/form-data; boundary=other",
    ],
)
def test_a_body_that_is_no_form_is_refused(client, content_type):
    refused(post(client, IMAGE + MODEL + END, content_type), 400, "bad_request")


@pytest.mark.parametrize("path", ["/classify", "/classify_batch"])
def test_a_compressed_body_is_refused_as_such(client, path):
    answer = client.post(
        path,
        content=gzip.compress(IMAGE + MODEL + END),
        headers=FORM | {"Content-Encoding": "gzip"},
    )

    assert "Content-Encoding" in refused(answer, 415, "unsupported")
    assert answer.headers["Accept-Encoding"] == "identity"


def test_a_body_compressed_on_its_way_is_refused_as_such(client):
    answer = client.post(
        "/classify",
        content=gzip.compress(IMAGE + MODEL + END),
        headers=FORM | {"Transfer-Encoding": "gzip, chunked"},
    )

    assert "Transfer-Encoding" in refused(answer, 415, "unsupported")


@pytest.mark.parametrize(
    "said",
    [
        *({"Content-Encoding": "identity"}, {"Content-Encoding": ""}),
        *({"Transfer-Encoding": "Chunked"}, {"Transfer-Encoding": ", chunked"}),
    ],
)
def test_a_body_that_is_said_to_be_as_it_is_is_read(client, said):
    answer = client.post("/classify", content=IMAGE + MODEL + END, headers=FORM | said)

    assert answer.status_code == 200


@pytest.mark.parametrize("encoding", [b"base64", b"Quoted-Printable"])
@pytest.mark.parametrize("which", [IMAGE, MODEL])
def test_a_part_that_is_not_sent_as_it_is_is_refused_as_such(client, which, encoding):
    written = which.replace(
        b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n", 1
    )
    body = (IMAGE + MODEL + END).replace(which, written)

    assert "Content-Transfer-Encoding" in refused(post(client, body), 415, "unsupported")


@pytest.mark.parametrize("encoding", [b"binary", b"8bit ", b"7BIT", b""])
def test_a_part_that_is_said_to_be_as_it_is_is_read(client, encoding):
    said = b"--edge\r\nContent-Transfer-Encoding: " + encoding + b"\r\n"

    assert post(client, (IMAGE + MODEL).replace(b"--edge\r\n", said) + END).status_code == 200


def test_an_address_in_place_of_the_picture_is_refused_and_not_fetched(client):
    answer = client.post("/classify", data={"image": "http://127.0.0.1:9/film.dcm"})
    refused(answer, 400, "bad_request")
    assert "never fetched" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("frame", value) for value in ("0", "-1", "1.5", "one", "9" * 400, " 1", "\uff11")],
        *[("force", value) for value in ("yes", "2", "True!")],
        *[("opacity", value) for value in ("nan", "inf", "-0.1", "1.1", "half", "1e999")],
        *[("max_side", value) for value in ("63", "4097", "1e9", "-5", "")],
        *[("output", value) for value in ("png", "", "OVERLAY")],
        *[("colormap", value) for value in ("jet2", "../turbo")],
    ],
)
def test_a_bad_option_is_refused_by_name(client, option, value):
    answer = client.post(
        "/explain", files={"image": PICTURE}, data={"model": "skin", option: value}
    )

    message = refused(answer, 400, "bad_option")
    assert option in message


def test_an_option_in_the_address_is_refused_for_it_would_do_nothing(client):
    body = IMAGE + MODEL + END
    message = refused(post(client, body, path="/explain?target=nevus"), 400, "bad_option")

    assert "`target` is in the address, expected in the form" in message
    assert post(client, body, path="/explain?from=here").status_code == 200


def test_an_unknown_model_is_not_found(client):
    answer = client.post("/classify", files={"image": PICTURE}, data={"model": "brain"})

    assert "chest, skin" in refused(answer, 404, "model_not_found")


def test_an_unknown_target_is_not_found(client):
    answer = client.post(
        "/explain", files={"image": PICTURE}, data={"model": "skin", "target": "measles"}
    )

    assert "melanoma" in refused(answer, 404, "target_not_found")


def test_a_file_that_is_no_picture_is_unreadable(client):
    answer = client.post("/classify", files={"image": b"hello"}, data={"model": "skin"})

    refused(answer, 422, "unreadable")


def test_a_cut_off_picture_is_unreadable(client):
    answer = client.post("/classify", files={"image": PICTURE[:80]}, data={"model": "skin"})

    refused(answer, 422, "unreadable")


def test_a_picture_that_is_decoded_for_too_long_is_given_up(serve_here, models_folder):
    client = serve_here(models_folder, decode_timeout_s=0.3)

    answer = client.post("/picture", files={"image": endless_jpeg()})

    assert "not decoded within 0.3 seconds" in refused(answer, 422, "unreadable")


def test_a_picture_of_too_many_pixels_is_refused(serve_here, models_folder):
    client = serve_here(models_folder, max_megapixels=0.01)

    answer = client.post("/classify", files={"image": PICTURE}, data={"model": "skin"})

    refused(answer, 413, "too_large")


def test_a_body_over_the_limit_is_refused(serve_here, models_folder):
    client = serve_here(models_folder, max_upload_mb=0.1)

    answer = client.post("/classify", files={"image": bytes(200_000)}, data={"model": "skin"})

    assert "0.1 MB" in refused(answer, 413, "too_large")


def test_a_body_over_the_limit_is_refused_before_it_has_all_come(serve_here, models_folder):
    client = serve_here(models_folder, max_upload_mb=0.1)

    def endless():  # chunked: no length is announced
        yield b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(10_000)

    refused(post(client, endless()), 413, "too_large")


def test_the_unexpected_is_a_500_without_details(client, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("Doe^John")

    monkeypatch.setattr("service.reading_room.ReadingRoom.read", fail)

    answer = client.post("/classify", files={"image": PICTURE}, data={"model": "skin"})

    assert "Doe" not in refused(answer, 500, "internal_error")
    assert answer.headers["X-Request-ID"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("given", ["ward-7.42", "a" * 64])
def test_a_safe_request_id_is_kept(client, given):
    answer = client.get("/models", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "<script>", "Doe^John"])
def test_any_other_request_id_is_replaced(client, given):
    answer = client.get("/models", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] != given
    assert len(answer.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize("path", ["/", "/models", "/nowhere", "/web/app.js"])
def test_no_answer_is_kept_by_anyone_or_shown_within_another_page(client, path):
    headers = client.get(path).headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    allowed = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= {*allowed}


def test_no_mutation_of_a_request_brings_a_500(client):
    dice = random.Random(0)
    body = IMAGE + MODEL + part("force", b"1") + part("max_side", b"64") + END
    for _ in range(300):
        mutated = bytearray(body)
        for _ in range(dice.randint(1, 8)):
            at = dice.randrange(len(mutated))
            if dice.random() < 0.5:
                mutated[at] = dice.randrange(256)
            else:
                del mutated[at : at + dice.randint(1, 40)]
        answer = post(client, bytes(mutated), path="/explain")
        assert answer.status_code < 500, bytes(mutated)
        if answer.status_code != 200:
            assert set(answer.json()) == {"error"}


def test_no_upload_touches_the_disk(client):
    large = png(np.random.default_rng(0).integers(0, 256, (2000, 2000), np.uint8))
    written, watching = [], True

    def audit(event, arguments):
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if watching and event == "open" and (arguments[2] or 0) & writes:
            written.append(arguments[0])

    sys.addaudithook(audit)  # there is no way to take it back
    answer = client.post("/explain", files={"image": ("Doe.png", large)}, data={"model": "skin"})
    watching = False

    assert len(large) > 3_000_000
    assert answer.status_code == 200
    assert written == []


def test_without_models_the_service_says_so(serve_here, tmp_path):
    client = serve_here(tmp_path)

    assert client.get("/models").json() == {"models": []}
    for options in ({}, {"model": "skin"}):
        answer = client.post("/classify", files={"image": PICTURE}, data=options)
        refused(answer, 503, "model_unavailable")


def test_an_upload_that_never_ends_is_given_up():
    async def nothing_comes():
        await asyncio.sleep(60)

    header = (b"content-type", b"multipart/form-data; boundary=edge")
    scope = {"type": "http", "headers": [header], "query_string": b""}
    request = Request(scope, nothing_comes)

    with pytest.raises(UploadTooSlow):
        asyncio.run(read_form(request, ClassifyOptions, Settings(upload_timeout_s=0.05)))
