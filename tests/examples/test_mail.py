"""The program `mail` sends mail, on every framework."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from anyio import to_thread
from anyio.from_thread import start_blocking_portal

from examples.mail import tasks
from tests.examples.conftest import GUARD, Log
from tests.examples.programs import FRAMEWORKS, client

WELCOME = "It is good to have you here."


class Inbox:
    """What a mail server has received."""

    def __init__(self) -> None:
        self.messages: Queue[tuple[list[str], Message]] = Queue()
        self.open = Event()
        """Not set while the server is slow."""
        self.open.set()

    async def handle_DATA(self, server: SMTP, session: object, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        assert await to_thread.run_sync(self.open.wait, GUARD)
        assert isinstance(envelope.content, bytes)
        self.messages.put((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


@contextmanager
def mail_server(inbox: Inbox, **settings: Any) -> Generator[int]:
    """Run a mail server, in a thread of its own; return its port."""

    async def start() -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: SMTP(inbox, **settings), "127.0.0.1", 0)

    with start_blocking_portal() as portal:
        server = portal.call(start)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            portal.call(server.close)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_mail(framework: str, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """1.3, 5.2 Who signs up gets a mail after the response; a shutdown waits for it."""
    inbox = Inbox()
    inbox.open.clear()
    with mail_server(inbox) as port:
        monkeypatch.setattr(tasks, "SMTP_HOST", "127.0.0.1")
        monkeypatch.setattr(tasks, "SMTP_PORT", port)
        with client(f"mail.{framework}_app", on_shutdown=inbox.open.set) as http:
            response = http.post("/signup", params={"email": "ada@example.com"})
            assert response.status_code == 201
            assert response.json() == {"email": "ada@example.com"}
    recipients, message = inbox.messages.get_nowait()
    assert recipients == ["ada@example.com"]
    assert message["Subject"] == "Welcome!"
    assert message["To"] == "ada@example.com"
    assert WELCOME in str(message)
    assert log.of("tasks_core", logging.WARNING) == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_failed_signup(framework: str, log: Log) -> None:
    """Nobody, no mail."""
    with client(f"mail.{framework}_app") as http:
        assert http.post("/signup").is_client_error
    assert log.of(tasks.__name__) == []


def test_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With SMTP_USER the connection is encrypted, and logged in."""
    logins: list[LoginPassword] = []

    def authenticate(
        _server: object, _session: object, _envelope: object, _mechanism: str, login: LoginPassword
    ) -> AuthResult:
        logins.append(login)
        return AuthResult(success=True)

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("localhost")
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - pyOpenSSL's too
    inbox = Inbox()
    with mail_server(
        inbox, tls_context=context, auth_required=True, authenticator=authenticate
    ) as port:
        monkeypatch.setattr(tasks, "SMTP_HOST", "localhost")
        monkeypatch.setattr(tasks, "SMTP_PORT", port)
        monkeypatch.setattr(tasks, "SMTP_USER", "shop")
        monkeypatch.setattr(tasks, "SMTP_PASSWORD", "secret")
        tasks.send_email("ada@example.com", "Welcome!", WELCOME)
    assert logins == [LoginPassword(b"shop", b"secret")]
    assert inbox.messages.get_nowait()[0] == ["ada@example.com"]


def test_no_server(log: Log) -> None:
    """Without SMTP_HOST the message is logged."""
    with client("mail.fastapi_app") as http:
        http.post("/signup", params={"email": "ada@example.com"})
    assert WELCOME in log.wait_for("SMTP_HOST is not set")


def test_refused(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """4.2 A mail that cannot be sent is one error in the log, with the task's name."""
    with socket.socket() as bound:  # nobody listens there
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setattr(tasks, "SMTP_HOST", "127.0.0.1")
        monkeypatch.setattr(tasks, "SMTP_PORT", bound.getsockname()[1])
        with client("mail.fastapi_app") as http:
            assert http.post("/signup", params={"email": "ada@example.com"}).is_success
    (failure,) = log.of("tasks_core", logging.ERROR)
    assert "welcome mail" in failure
