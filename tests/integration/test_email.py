"""Email against a real SMTP server: TLS, logins, greylists, partial refusals, silence."""

from __future__ import annotations

import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from alerts.notify.email import EmailSender
from alerts.notify.errors import NotifyError
from model.alerting import Reason
from model.channels import EmailChannel
from tests.alert_samples import finding, notice


@dataclass
class Mailbox:
    """An aiosmtpd handler. refuse: recipient → answers, each used once."""

    refuse: dict[str, list[str]] = field(default_factory=dict)
    messages: list[tuple[list[str], bytes]] = field(default_factory=list)
    data_answer: str = "250 taken"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, to: str, _: Any) -> str:  # noqa: N802
        if self.refuse.get(to):
            return self.refuse[to].pop(0)
        envelope.rcpt_tos.append(to)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.data_answer.startswith("250"):
            self.messages.append((envelope.rcpt_tos, envelope.content))
        return self.data_answer


@dataclass
class Certificate:
    server: ssl.SSLContext
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed certificate for localhost, and a client that trusts it alone."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {cert}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    return Certificate(server, ssl.create_default_context(cafile=str(cert)))


Start = Callable[..., tuple[Mailbox, int]]


@pytest.fixture
def smtp() -> Iterator[Start]:
    """Starts SMTP servers; smtp(**settings of aiosmtpd) gives a mailbox and a port."""
    running: list[Controller] = []

    def start(**settings: Any) -> tuple[Mailbox, int]:
        mailbox = Mailbox()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        controller = Controller(mailbox, hostname="localhost", port=port, **settings)
        controller.start()
        running.append(controller)
        return mailbox, port

    yield start
    for controller in running:
        controller.stop()


def channel(port: int, **changed: Any) -> EmailChannel:
    values: dict[str, Any] = {
        "kind": "email",
        "name": "dba",
        "smtp_host": "localhost",
        "smtp_port": port,
        "security": "none",
        "from": "Headroom <headroom@example.internal>",
        "to": ("a@example.internal", "B <b@example.internal>"),
        "timeout": "5s",
    }
    return EmailChannel.model_validate({**values, **changed})


async def test_a_message_arrives_as_text_and_html(smtp: Start) -> None:
    mailbox, port = smtp()
    await EmailSender(channel(port)).send(notice())
    [(to, raw)] = mailbox.messages
    mail = message_from_bytes(raw, policy=default)
    assert to == ["a@example.internal", "b@example.internal"]
    assert mail["Subject"] == "[Headroom] WARNING: clients wait for a pool on shop-pool (shop/app)"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


async def test_starttls_is_used_and_the_login_comes_after_it(
    smtp: Start, certificate: Certificate
) -> None:
    logins: list[tuple[bool, bytes, bytes]] = []

    def check(
        server: Any, session: Any, envelope: Any, how: str, data: LoginPassword
    ) -> AuthResult:
        logins.append((session.ssl is not None, data.login, data.password))
        return AuthResult(success=data.password == b"secret", handled=False)

    mailbox, port = smtp(
        tls_context=certificate.server,
        require_starttls=True,
        authenticator=check,
        auth_required=True,
    )
    login = {"security": "starttls", "username": "headroom"}
    await EmailSender(channel(port, **login, password="secret"), certificate.trusting).send(
        notice()
    )
    assert len(mailbox.messages) == 1
    assert logins == [(True, b"headroom", b"secret")]
    wrong = channel(port, **login, password="other")
    with pytest.raises(NotifyError, match="refuses our login: 535") as refused:
        await EmailSender(wrong, certificate.trusting).send(notice())
    assert refused.value.permanent
    assert "other" not in str(refused.value)


async def test_tls_from_the_first_byte(smtp: Start, certificate: Certificate) -> None:
    mailbox, port = smtp(ssl_context=certificate.server)
    await EmailSender(channel(port, security="tls"), certificate.trusting).send(notice())
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(
    "security",
    [
        pytest.param(
            how,
            # aiosmtpd leaves the transport of a failed handshake to the garbage collector
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        )
        for how in ("starttls", "tls")
    ],
)
async def test_an_unknown_certificate_gets_no_mail_and_no_password(
    smtp: Start, certificate: Certificate, security: str
) -> None:
    key = "tls_context" if security == "starttls" else "ssl_context"
    mailbox, port = smtp(**{key: certificate.server})
    with pytest.raises(NotifyError, match="certificate"):
        await EmailSender(channel(port, security=security)).send(notice())
    assert mailbox.messages == []


async def test_a_server_without_starttls_gets_no_mail(smtp: Start) -> None:
    mailbox, port = smtp()
    with pytest.raises(NotifyError, match="STARTTLS"):
        await EmailSender(channel(port, security="starttls")).send(notice())
    assert mailbox.messages == []


async def test_a_greylisted_recipient_gets_it_later_and_the_other_only_once(smtp: Start) -> None:
    mailbox, port = smtp()
    mailbox.refuse["b@example.internal"] = ["451 greylisted, come back"]
    sender = EmailSender(channel(port))
    with pytest.raises(NotifyError, match=r"1 of 2 recipients refused.*451 greylisted") as refused:
        await sender.send(notice())
    assert not refused.value.permanent
    await sender.send(notice())
    assert [to for to, _ in mailbox.messages] == [["a@example.internal"], ["b@example.internal"]]
    await sender.send(notice(Reason.RESOLVED, id="n2"))
    assert len(mailbox.messages[-1][0]) == 2


@pytest.mark.parametrize(
    ("answers", "permanent"),
    [
        ({"a@example.internal": ["550 gone"], "b@example.internal": ["550 gone"]}, True),
        ({"a@example.internal": ["550 gone"]}, True),
        ({"a@example.internal": ["550 gone"], "b@example.internal": ["451 later"]}, False),
    ],
)
async def test_only_refusals_for_good_are_permanent(
    smtp: Start, answers: dict[str, list[str]], permanent: bool
) -> None:
    mailbox, port = smtp()
    mailbox.refuse = answers
    with pytest.raises(NotifyError) as refused:
        await EmailSender(channel(port)).send(notice())
    assert refused.value.permanent is permanent


@pytest.mark.parametrize(("answer", "permanent"), [("451 busy", False), ("554 no", True)])
async def test_a_refused_message_says_whether_to_try_again(
    smtp: Start, answer: str, permanent: bool
) -> None:
    mailbox, port = smtp()
    mailbox.data_answer = answer
    with pytest.raises(NotifyError, match=answer) as refused:
        await EmailSender(channel(port)).send(notice())
    assert refused.value.permanent is permanent


async def test_nobody_listening_is_no_reason_to_give_up() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(NotifyError, match="cannot talk to the mail server") as refused:
            await EmailSender(channel(port, smtp_host="127.0.0.1")).send(notice())
    assert not refused.value.permanent


async def test_a_server_that_hangs_ends_by_the_timeout_and_leaves_no_thread() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hanging = channel(silent.getsockname()[1], smtp_host="127.0.0.1", timeout="300ms")
        t0 = time.monotonic()
        with pytest.raises(NotifyError):
            await EmailSender(hanging).send(notice())
        assert time.monotonic() - t0 < 2.0
        deadline = time.monotonic() + 5.0
        while any(t.name == "headroom-email" for t in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # noqa: ASYNC251  waits for the thread, not for luck


class Goodbye(socketserver.StreamRequestHandler):
    """An SMTP server that takes everything and ends the conversation in its own way."""

    answer: bytes | None  # to QUIT; None says nothing and keeps the connection open
    taken: list[bytes]

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go\r\n")
                self.taken.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self.wfile.write(b"250 queued\r\n")
            elif word == b"QUIT":
                if self.answer is not None:
                    self.wfile.write(self.answer)
                    return
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.mark.parametrize(
    "answer",
    [b"221 bye\r\n", b"421 closing\r\n", b"500 what\r\n", b"", b"nonsense\r\n", None],
    ids=["polite", "closing", "not known", "hangs up", "nonsense", "silent"],
)
async def test_a_message_that_was_taken_is_sent_whatever_the_server_says_to_quit(
    answer: bytes | None,
) -> None:
    made = type("Made", (Goodbye,), {"answer": answer, "taken": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), made) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        slow = channel(port, smtp_host="127.0.0.1", timeout="500ms")
        await EmailSender(slow).send(notice())
        server.shutdown()
    assert len(made.taken) == 1


async def test_a_hostile_name_adds_no_recipient(smtp: Start) -> None:
    mailbox, port = smtp()
    evil = finding(target="x", summary="a\r\nBcc: c@example.internal\r\n\r\n.\r\nMAIL FROM:<x>")
    await EmailSender(channel(port)).send(notice(made=evil))
    [(to, raw)] = mailbox.messages
    assert to == ["a@example.internal", "b@example.internal"]
    assert message_from_bytes(raw, policy=default)["Bcc"] is None
