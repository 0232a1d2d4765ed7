"""Who gets in, and what is told to those who do not."""

import base64

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.settings import Settings
from tests.service.pictures import film, png, square

PICTURE = png(square(100, 120, 20, 30))
WARD, LAB = "ward-7-key-0123456789", "lab-key-9876543210abc"
OTHER = "schlüssel:0123456789-à"
KEYS = f"ward:{WARD},lab:{LAB},other:{OTHER}"
VIEWER = "https://viewer.example.org"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.fixture
def locked(serve_here, models_folder) -> TestClient:
    return serve_here(models_folder, api_keys=KEYS)


@pytest.mark.parametrize(
    "shown",
    [
        *(f"Bearer {WARD}", f"bearer {LAB}", f"Bearer  {WARD}", f"Bearer {OTHER}".encode()),
        *(basic(LAB), basic(OTHER), basic(LAB).replace(" ", "  ")),
    ],
)
def test_a_key_opens(locked, shown):
    answer = locked.post(
        "/classify",
        files={"image": PICTURE},
        data={"model": "skin"},
        headers={"Authorization": shown},
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "shown",
    [
        *("", WARD, "Bearer", "Bearer ", f"Bearer {WARD[:-1]}", f"Bearer {WARD}x", "Bearer ß"),
        *("Basic !", "Basic /w==", basic("wrong"), basic(""), f"Digest {WARD}"),
    ],
)
def test_without_a_key_nothing_opens(locked, shown):
    for path in ("/models", "/classify", "/picture", "/openapi.json", "/nowhere", "/web"):
        answer = locked.get(path, headers={"Authorization": shown.encode("latin-1")})

        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "key_required"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="CARE"'
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert WARD not in answer.text


def test_health_and_metrics_ask_for_no_key(locked):
    for path in ("/metrics", "/v2/health/live", "/v2/health/ready"):
        assert locked.get(path).status_code == 200


def test_the_page_opens_without_a_key_and_nothing_behind_it_does(locked):
    assert "Not a medical device" in locked.get("/").text
    assert locked.get("/web/app.js").status_code == 200
    for path in ("/web/../models", "/web/%2e%2e/models", "/web//models"):
        assert locked.get(path).status_code in (401, 404)


def test_a_keys_name_and_never_the_key_is_in_metrics_and_log(locked, caplog):
    caplog.set_level("INFO")
    locked.get("/models", headers={"Authorization": f"Bearer {LAB}"})

    metrics = locked.get("/metrics").text
    assert 'care_requests_total{key="lab",route="/models",status="200"}' in metrics
    fields = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert fields[0]["key"] == "lab"
    assert LAB not in metrics + caplog.text + str(fields)


def test_keys_come_from_a_file_beside_those_of_the_setting(serve_here, models_folder, tmp_path):
    (tmp_path / "keys").write_text(f"# who may ask\nward:{WARD}\n\nlab:{LAB}\n")
    client = serve_here(models_folder, api_keys=f"other:{OTHER}", api_keys_file=tmp_path / "keys")

    assert client.get("/models").status_code == 401
    for key in (WARD, LAB, OTHER):
        headers = {"Authorization": f"Bearer {key}".encode()}
        assert client.get("/models", headers=headers).status_code == 200


@pytest.mark.parametrize("content", [None, "", "# none\n", "ward\n", "ward:short\n"])
def test_a_file_of_keys_that_holds_none_keeps_the_service_from_starting(
    serve_here, models_folder, tmp_path, content
):
    if content is not None:
        (tmp_path / "keys").write_text(content)

    with pytest.raises((OSError, ValueError)):
        serve_here(models_folder, api_keys_file=tmp_path / "keys")


def test_a_malformed_key_is_not_repeated(monkeypatch):
    monkeypatch.setenv("CARE_API_KEYS", f"two words:{WARD}")

    with pytest.raises(ValidationError) as error:
        Settings()

    assert WARD not in str(error.value)
    assert WARD not in repr(Settings(api_keys=f"ward:{WARD}"))


def test_pages_of_other_origins_are_not_answered_unless_named(client):
    answer = client.get("/models", headers={"Origin": VIEWER})

    assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_of_a_named_origin_may_ask(serve_here, models_folder):
    client = serve_here(models_folder, api_keys=KEYS, cors_origins=f"{VIEWER}, https://b.example")
    asked = {"Origin": VIEWER, "Access-Control-Request-Method": "POST"}

    before = client.options(
        "/classify",
        headers=asked | {"Access-Control-Request-Headers": "Authorization, X-Request-ID"},
    )
    other = client.options("/classify", headers=asked | {"Origin": "https://evil.example"})
    answer = client.get("/models", headers={"Origin": VIEWER, "Authorization": f"Bearer {WARD}"})

    assert before.status_code == 200
    assert before.headers["Access-Control-Allow-Origin"] == VIEWER
    assert other.status_code == 400
    assert "Access-Control-Allow-Origin" not in other.headers
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER


def test_pages_of_a_named_origin_may_read_what_the_headers_say(serve_here, models_folder):
    client = serve_here(models_folder, cors_origins=VIEWER)
    sent = {"image": film(square(100, 120, 20, 30))}
    answer = client.post("/explain", files=sent, headers={"Origin": VIEWER})

    readable = answer.headers["Access-Control-Expose-Headers"].lower().split(", ")
    assert "retry-after" in readable
    assert {name for name in answer.headers if name.startswith("x-")} <= {
        *readable,
        "x-content-type-options",
    }


def test_the_name_of_a_path_nobody_knows_is_counted_nowhere(client):
    for number in range(20):
        client.get(f"/Canary/{number}")

    metrics = client.get("/metrics").text
    assert "Canary" not in metrics
    assert 'care_requests_total{key="-",route="-",status="404"}' in metrics
