"""Email, by the standard library's smtplib in a thread of its own.

TLS certificates are verified. Messages about one alert refer to the same (never sent)
message id, so that mail programs show them as one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from alerts.notify.errors import NotifyError
from alerts.notify.message import Message, message
from alerts.wording import plain
from model.alerting import Notice, Severity
from model.channels import EmailChannel

SUBJECT_LIMIT = 200  # characters
REMEMBERED = 200  # partly delivered messages of which we know who has them already


def render(notice: Notice, channel: EmailChannel) -> EmailMessage:
    """The message about *notice*, as text and as HTML."""
    parts = message(notice)
    sender = plain(channel.sender, 300)
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(plain(to, 300) for to in channel.to)
    mail["Subject"] = plain(f"[Headroom] {parts.title}", SUBJECT_LIMIT)
    mail["Date"] = format_datetime(notice.at)
    mail["Message-ID"] = f"<{notice.id}@{domain}>"
    mail["In-Reply-To"] = mail["References"] = f"<alert-{notice.alert_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Headroom-Reason"] = notice.reason.value
    if parts.severity is Severity.CRITICAL and not parts.resolved:
        mail["Importance"] = "high"
    mail.set_content(text_body(parts))
    mail.add_alternative(html_body(parts), subtype="html")
    return mail


def text_body(parts: Message) -> str:
    """The plain text."""
    lines = [parts.title, "", parts.status, f"{parts.summary}.", ""]
    lines += [f"{label + ':':<13} {value}" for label, value in parts.facts]
    if parts.statement:
        lines += ["", "Statement (masked):", f"  {parts.statement}"]
    if not parts.resolved:
        lines += ["", f"Do first: {parts.advice}"]
    if parts.evidence:
        lines += ["", "Evidence:", *(f"- {line}" for line in parts.evidence)]
    if parts.verdict:
        lines += ["", f"Verdict: {parts.verdict}"]
    lines += ["", f"Dashboard: {parts.link}", f"About this rule: {parts.rule_page}"]
    return "\n".join(lines) + "\n"


def html_body(parts: Message) -> str:
    """The HTML; without images, scripts and links of others."""
    safe = html.escape
    colour = "#1a7f37" if parts.resolved else _COLOURS[parts.severity]
    rows = "".join(
        f"<tr><th align='left'>{safe(label)}</th><td>{safe(value)}</td></tr>"
        for label, value in parts.facts
    )
    pieces = [
        f"<h2 style='color:{colour}'>{safe(parts.title)}</h2>",
        f"<p>{safe(parts.status)}<br><b>{safe(parts.summary)}.</b></p>",
        f"<table cellpadding='4'>{rows}</table>",
    ]
    if parts.statement:
        wrap = "white-space:pre-wrap"
        pieces.append(
            f"<p>Statement (masked):</p><pre style='{wrap}'>{safe(parts.statement)}</pre>"
        )
    if not parts.resolved:
        pieces.append(f"<p><b>Do first:</b> {safe(parts.advice)}</p>")
    if parts.evidence:
        items = "".join(f"<li>{safe(line)}</li>" for line in parts.evidence)
        pieces.append(f"<ul>{items}</ul>")
    if parts.verdict:
        pieces.append(f"<p><b>Verdict:</b> {safe(parts.verdict)}</p>")
    pieces.append(
        f"<p><a href='{safe(parts.link)}'>Open the dashboard at that moment</a><br>"
        f"About this rule: {safe(parts.rule_page)}</p>"
    )
    return f"<!doctype html><html><body>{''.join(pieces)}</body></html>\n"


_COLOURS = {Severity.CRITICAL: "#b42318", Severity.WARNING: "#9a6700"}


class EmailSender:
    """Sends the messages of one channel.

    tls: the TLS settings; by default the system's, which verify certificates and names.
    A server may take a message for some recipients and refuse it for others. The next try
    goes only to those who do not have it yet; this is remembered until the process ends.
    """

    def __init__(self, channel: EmailChannel, tls: ssl.SSLContext | None = None) -> None:
        self._channel = channel
        self._tls = tls or ssl.create_default_context()
        self._taken: dict[str, set[str]] = {}

    async def send(self, notice: Notice) -> None:
        """Hand the message to the mail server. Raises NotifyError."""
        mail = render(notice, self._channel)
        taken = self._taken.get(notice.id, set())
        missing = [to for to in self._channel.to if to not in taken]
        attempt = _Attempt(self._channel, self._tls, mail, missing)
        try:
            async with asyncio.timeout(self._channel.timeout):
                refused = await _in_thread(attempt.run)
        except TimeoutError:
            # The server may have taken it already and be slow to say goodbye.
            if attempt.refused is None:
                raise NotifyError(f"no answer within {self._channel.timeout:g} s") from None
            refused = attempt.refused
        finally:
            attempt.abort()
        self._remember(notice.id, {*taken, *missing} - refused.keys())
        if refused:
            raise _refusal(refused, len(self._channel.to))
        self._taken.pop(notice.id, None)

    def _remember(self, notice_id: str, taken: set[str]) -> None:
        if taken:
            self._taken[notice_id] = taken
        while len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]


Refused = dict[str, tuple[int, str]]
"""Recipient → the server's code and words."""


class _Attempt:
    """One conversation with the mail server, in a thread; abort() ends it from outside.

    refused: what the server has answered; None until it has. How the conversation ends after
    that changes nothing: the message is the server's.
    """

    def __init__(
        self, channel: EmailChannel, tls: ssl.SSLContext, mail: EmailMessage, to: list[str]
    ) -> None:
        self._channel = channel
        self._tls = tls
        self._mail = mail
        self._to = to
        self._smtp: smtplib.SMTP | None = None
        self._given_up = False
        self.refused: Refused | None = None

    def run(self) -> Refused:
        """Send; returns who was refused. Raises NotifyError."""
        try:
            return self._talk()
        except smtplib.SMTPResponseException as error:
            raise NotifyError(
                f"{_stage(error)}: {error.smtp_code} {_said(error.smtp_error)}",
                permanent=500 <= error.smtp_code < 600,
            ) from None
        except smtplib.SMTPNotSupportedError as error:
            raise NotifyError(f"the mail server lacks something: {error}", permanent=True) from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotifyError(f"cannot talk to the mail server: {_said(str(error))}") from None

    def _talk(self) -> Refused:
        smtp = self._connect()
        try:
            self._smtp = smtp
            self._login(smtp)
            if self._given_up:  # the next try will send it; once is enough
                raise NotifyError("given up before it was sent")
            addresses = [parseaddr(to)[1] or to for to in self._to]
            try:
                answer = smtp.send_message(self._mail, to_addrs=addresses)
            except smtplib.SMTPRecipientsRefused as error:
                answer = error.recipients
            self.refused = self._by_recipient(answer)
            return self.refused
        finally:
            # A goodbye that fails says nothing about the message.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()

    def _by_recipient(self, answer: dict[str, tuple[int, bytes]]) -> Refused:
        """The server's answer by our names of the recipients."""
        codes = {address: (code, _said(text)) for address, (code, text) in answer.items()}
        return {
            to: codes[parseaddr(to)[1] or to]
            for to in self._to
            if (parseaddr(to)[1] or to) in codes
        }

    def abort(self) -> None:
        """Cut the connection, so that a server that hangs does not keep the thread."""
        self._given_up = True
        sock = self._smtp.sock if self._smtp is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has ended by itself

    def _connect(self) -> smtplib.SMTP:
        host, port = self._channel.smtp_host, self._channel.smtp_port
        timeout = self._channel.timeout
        if self._channel.security == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=timeout, context=self._tls)
        smtp = smtplib.SMTP(host, port, timeout=timeout)
        if self._channel.security == "starttls":
            self._smtp = smtp
            try:
                smtp.starttls(context=self._tls)
            except BaseException:
                smtp.close()
                raise
        return smtp

    def _login(self, smtp: smtplib.SMTP) -> None:
        if self._channel.username and self._channel.password:
            smtp.login(self._channel.username, self._channel.password.get_secret_value())


def _stage(error: smtplib.SMTPResponseException) -> str:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "the mail server refuses our login"
    if isinstance(error, smtplib.SMTPSenderRefused):
        return "the mail server refuses our sender address"
    return "the mail server refuses the message"


def _said(text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return plain(words, 200)


def _refusal(refused: Refused, recipients: int) -> NotifyError:
    """Permanent only if no refused recipient may change its mind."""
    permanent = all(500 <= code < 600 for code, _ in refused.values())
    code, text = next(iter(refused.values()))
    return NotifyError(
        f"{len(refused)} of {recipients} recipients refused, the first with {code} {text}",
        permanent,
    )


async def _in_thread(work: Callable[[], Refused]) -> Refused:
    """Run *work* in a daemon thread: one that hangs must keep neither others nor our exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Refused] = loop.create_future()

    def settle(result: Refused | None, error: BaseException | None) -> None:
        if done.done():  # given up meanwhile
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result or {})

    def body() -> None:
        result: Refused | None = None
        failed: BaseException | None = None
        try:
            result = work()
        except Exception as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=body, name="headroom-email", daemon=True).start()
    return await done
