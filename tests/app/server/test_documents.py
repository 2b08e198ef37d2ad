"""The documentation beside the app: the repository's pages and pictures and nothing else."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.server import documents


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(Starlette(routes=[documents.route()]))


def test_every_page_is_there_and_its_pictures_and_pages_too(client: TestClient) -> None:
    names = documents.titles()
    assert {"README.md", "docs/data.md", "docs/hosting.md"} <= set(names)
    for name in names:
        page = client.get(f"{documents.PATH}/{name}")
        assert page.status_code == 200
        assert "&lt;!--" not in page.text
        assert "sdk_version" not in page.text
        folder = f"{documents.PATH}/{name}".rsplit("/", 1)[0]
        linked = re.findall(r'(?:src|href)="((?:\.\./|docs/|assets/)[^"#]*)', page.text)
        for target in {one for one in linked if one.endswith((".md", ".png", ".jpg"))}:
            found = client.get(f"{folder}/{target}")
            assert found.status_code == 200, (name, target)
    assert "<table>" in client.get(f"{documents.PATH}/README.md").text
    assert client.get(f"{documents.PATH}/").text == client.get(f"{documents.PATH}/README.md").text


@pytest.mark.parametrize(
    "name", ["app.py", "docs/../app.py", "..%2f..%2fetc/passwd", "assets/base/model.json", "x.md"]
)
def test_nothing_else_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"{documents.PATH}/{name}").status_code == 404
