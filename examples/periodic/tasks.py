"""What the three applications of this folder run by the clock: a clean-up, and a report.

With several workers each of them would send the report: `claim` in docs/periodic.md is four lines.
"""

import logging
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from zoneinfo import ZoneInfo

from tasks_core import Cron, Periodic, PeriodicTask, TaskConfig

logger = logging.getLogger(__name__)
sessions: dict[str, datetime] = {}
"""When each session expires, by its token."""


def open_session(seconds: float) -> str:
    """Open a session, which expires; return its token."""
    token = token_hex(8)
    sessions[token] = datetime.now(UTC) + timedelta(seconds=seconds)
    return token


async def clean_up_sessions() -> int:
    """Forget the sessions that have expired; return how many there were."""
    now = datetime.now(UTC)
    expired = [token for token, expires in sessions.items() if expires <= now]
    for token in expired:
        del sessions[token]
    return len(expired)


def send_report() -> None:
    """Stand for a mail, which takes a thread and some time."""
    logger.info("daily report: %d sessions are open", len(sessions))


PERIODIC = [
    Periodic(clean_up_sessions, Cron("0 0 * * *"), TaskConfig(name="cleanup_sessions")),
    Periodic(
        send_report,
        Cron("0 9 * * *", tz=ZoneInfo("Europe/Berlin")),
        # A deploy at nine waits for it, at most ten minutes.
        TaskConfig(name="daily_report", timeout=600, shield=True),
    ),
]


def show(periodic: PeriodicTask) -> dict[str, str | bool | None]:
    """Say when a periodic task runs next, and what became of its last run."""
    at, last = periodic.next_run_time, periodic.last
    return {
        "name": periodic.name,
        "next_run_time": None if at is None else at.isoformat(),
        "last_run": None if last is None else str(last.state),
        "paused": periodic.paused,
    }
