"""Pushing an export: with a token, which is kept nowhere, and told where it fails."""

import pytest

from dpd_core.config import ExportConfig
from dpd_core.errors import ConfigError, DPDError
from dpd_core.export import push as hub
from dpd_core.export import stage as export
from dpd_core.export.push import TOKEN_VARIABLES, push
from tests.support.distilled_project import make_project


def test_a_push_needs_a_token_before_any_work(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        export.run(project, ExportConfig(push="me/set"))
    assert not project.path("export").exists()


def test_a_failed_push_is_told_and_the_token_kept_nowhere(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DPDError) as failure:
        export.run(project, ExportConfig(push="me/set"), token="hf_secret")
    assert "me/set" in str(failure.value)
    assert "hf_secret" not in str(failure.value)
    assert project.path("export", "dpd-1", "README.md").exists()
    for path in project.root.rglob("*"):
        if path.is_file():
            assert b"hf_secret" not in path.read_bytes()


def test_a_push_uploads_the_folder_with_the_token(tmp_path, monkeypatch):
    calls = []

    class Api:
        def __init__(self, token):
            calls.append(("token", token))

        def create_repo(self, name, **options):
            calls.append(("create", name, options["repo_type"], options["private"]))

        def upload_folder(self, **options):
            calls.append(("upload", options["repo_id"], options["folder_path"].name))

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    summary = export.run(make_project(tmp_path), ExportConfig(push="me/set"))
    assert calls == [
        ("token", "hf_environment"),
        ("create", "me/set", "dataset", True),
        ("upload", "me/set", "dpd-1"),
    ]
    assert summary["pushed"] == "me/set"


def test_a_host_that_does_not_answer_is_told(tmp_path, monkeypatch):
    class ConnectError(Exception):
        """As the HTTP library of huggingface_hub raises it."""

    ConnectError.__module__ = "httpx2._exceptions"

    def fail(*arguments, **options):
        raise ConnectError("[Errno 111] Connection refused")

    monkeypatch.setattr(hub.HfApi, "create_repo", fail)
    with pytest.raises(DPDError, match="cannot be reached"):
        push(tmp_path, "me/set", token="hf_secret")
