"""Which part of a traceback is the users'."""

from __future__ import annotations

from types import TracebackType

from ._raised import get_traceback, set_traceback
from ._threads import Threads, in_thread


def cut_traceback(error: BaseException) -> TracebackType | None:
    """Leave an error the users' part of its traceback; return that."""
    part = users_part(get_traceback(error))
    set_traceback(error, part)
    return part


def users_part(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the first frame on that is not ours, nor one of anyio's threads.

    The frames before it say nothing to users, and hold the task, which holds the error: a cycle of
    references.
    """
    part = traceback
    while part is not None and _is_ours(part):
        part = _within_thread(part) if part.tb_frame.f_code is _TO_THREAD else part.tb_next
    return part


def _is_ours(traceback: TracebackType) -> bool:
    return str(traceback.tb_frame.f_globals.get("__name__")).startswith(_PACKAGE)


def _within_thread(traceback: TracebackType) -> TracebackType | None:
    part: TracebackType | None = traceback
    while part is not None and part.tb_frame.f_code is not _IN_THREAD:
        part = part.tb_next
    return traceback.tb_next if part is None else part.tb_next  # there may have been no thread


_PACKAGE = f"{__package__}._"
_TO_THREAD, _IN_THREAD = Threads.run.__code__, in_thread.__code__
