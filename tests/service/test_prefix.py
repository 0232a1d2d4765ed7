"""The service under a path prefix, behind proxies that pass it on and such as take it off."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from pydantic import ValidationError

from service.settings import Settings
from tests import patience
from tests.server import Server, started
from tests.service.pictures import film, square

PREFIX = "/care"
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Forward(BaseHTTPRequestHandler):
    """Gives requests under the prefix to the service, and no others."""

    def __init__(self, service: str, strips: bool, *args: object) -> None:
        self.service, self.strips = service, strips
        super().__init__(*args)

    def forward(self) -> None:
        if not self.path.startswith(PREFIX):
            self.send_error(404)
            return
        path = (self.path.removeprefix(PREFIX) or "/") if self.strips else self.path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = patience.request(
            self.command, self.service + path, content=body, headers=dict(self.headers)
        )
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def proxy(service: str, *, strips: bool) -> Iterator[str]:
    """A reverse proxy; its address with the prefix, without a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Forward, service, strips))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def prefixed(models_folder, tmp_path_factory) -> Iterator[Server]:
    with started(models_folder, tmp_path_factory.mktemp("prefixed"), root_path=PREFIX) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["stripped", "passed on"])
def address(request, prefixed) -> Iterator[str]:
    with proxy(prefixed.url, strips=request.param) as url:
        yield url


def test_every_kind_of_path_answers_under_the_prefix(address):
    film_of_a_chest = {"image": film(square(200, 160, 20, 30))}

    for path in ("/livez", "/readyz", "/metrics", "/models", "/v2/health/ready", "/web/app.js"):
        assert patience.get(address + path).status_code == 200, path
    assert patience.post(address + "/classify", files=film_of_a_chest).status_code == 200
    unknown = patience.get(address + "/nowhere")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")


def test_the_page_finds_what_it_loads_with_and_without_a_slash_at_the_end(address):
    for end in ("", "/"):
        page = patience.get(address + end, follow_redirects=True)

        assert page.status_code == 200
        assert f'src="{PREFIX}/web/app.js"' in page.text
        assert f'href="{PREFIX}/web/style.css"' in page.text
        assert '"web/' not in page.text


def test_openapi_names_the_prefix_as_its_server(address, server):
    assert patience.get(address + "/openapi.json").json()["servers"] == [{"url": PREFIX}]
    assert "servers" not in patience.get(server.url + "/openapi.json").json()


def test_without_proxy_the_service_answers_with_the_prefix_and_without(prefixed):
    for path in ("/models", f"{PREFIX}/models"):
        assert patience.get(prefixed.url + path).status_code == 200
    redirect = patience.get(prefixed.url + PREFIX)
    assert (redirect.status_code, redirect.headers["Location"]) == (307, f"{PREFIX}/")
    asking = patience.get(f"{prefixed.url}{PREFIX}?a=%20b&c")
    assert asking.headers["Location"] == f"{PREFIX}/?a=%20b&c"
    assert patience.get(f"{prefixed.url}{PREFIX}less").status_code == 404


def test_no_prefix_is_taken_off_where_none_is_set(server):
    assert patience.get(f"{server.url}{PREFIX}/models").status_code == 404


def test_a_slash_at_the_end_of_the_prefix_says_nothing():
    assert Settings(root_path="/care/").root_path == "/care"
    assert Settings(root_path="/").root_path == ""


@pytest.mark.parametrize("path", ["care", "//care", '/"><script>', "/a b", "/..", "/a/./b"])
def test_a_prefix_that_is_no_path_keeps_the_service_from_starting(path):
    with pytest.raises(ValidationError, match="expected a path such as /care"):
        Settings(root_path=path)


@pytest.mark.parametrize("end", ["", "/"])
def test_the_page_works_in_a_browser_under_the_prefix(browser, address, end):
    page = browser.new_page()
    page.set_default_timeout(1000 * patience.SECONDS)
    complaints = []
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("response", lambda answer: answer.status >= 400 and complaints.append(answer.url))
    page.goto(address + end)
    page.wait_for_selector("#model option[value=chest]", state="attached")
    data = film(square(200, 160, 20, 30))
    page.set_input_files("#file", {"name": "a", "mimeType": "", "buffer": data})

    page.wait_for_selector("#answer:visible")

    with page.expect_download() as download:
        page.click("#save-overlay")
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    page.close()
    assert complaints == []
