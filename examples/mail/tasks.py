"""The task that the three applications of this folder share: send one e-mail.

`smtplib` blocks, so the task is a sync function, which runs in a thread (promise 2.1). Set
SMTP_HOST to send; without it the message is logged instead.
"""

import logging
import os
import smtplib
import ssl
from email.message import EmailMessage

SMTP_HOST = os.environ.get("SMTP_HOST", "")
SMTP_PORT = int(os.environ.get("SMTP_PORT", "587"))
SMTP_USER = os.environ.get("SMTP_USER", "")
SMTP_PASSWORD = os.environ.get("SMTP_PASSWORD", "")
SENDER = os.environ.get("MAIL_SENDER", "shop@example.com")

logger = logging.getLogger(__name__)


def send_email(to: str, subject: str, body: str) -> None:
    """Send a message. What goes wrong is raised: the runner logs it, with the task's name."""
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = to
    message["Subject"] = subject
    message.set_content(body)
    if not SMTP_HOST:
        logger.info("SMTP_HOST is not set, so this is not sent:\n%s", message)
        return
    with smtplib.SMTP(SMTP_HOST, SMTP_PORT, timeout=10) as server:
        if SMTP_USER:
            server.starttls(context=ssl.create_default_context())
            server.login(SMTP_USER, SMTP_PASSWORD)
        server.send_message(message)
