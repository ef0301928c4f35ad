"""What needs more than anyio: an extra of the package installs it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def extra(name: str, needs: str, *, of: str) -> Generator[None]:
    """Say what to install, where what is imported in the block is not there.

    Args:
        name: The extra.
        needs: The package that is imported.
        of: What needs it.

    Raises:
        ModuleNotFoundError: It is not installed. One of what that package needs itself is left as
            it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != needs:
            raise
        msg = f'{of} needs {needs}: pip install "tasks-core[{name}]"'
        raise ModuleNotFoundError(msg, name=error.name, path=error.path) from error
