"""Middleware, layer by layer, and what is its innermost application; routes, and those within."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from inspect import iscoroutinefunction, signature
from itertools import islice
from typing import Any, Final, cast

_LAYERS: Final = 32
"""So many are looked through; some have no end."""

_ROUTES: Final = 20_000
"""So many routes are looked at; some are made anew whenever they are asked for."""


def layers(app: object) -> Iterator[object]:
    """Go through middleware, from the outermost on."""
    for _ in range(_LAYERS):
        if app is None:
            return
        yield app
        app = _kept(app, "app")


def routes_of(app: object) -> Iterator[object]:
    """Go through the routes of an application and those within, each once: some lead back."""
    routes = _routes(app)
    known = {id(route) for route in routes}  # as long as all of them are kept, so is each number
    for route in islice(routes, _ROUTES):  # to which more are added meanwhile
        yield route
        for inner in _routes(route):
            if id(inner) not in known:
                known.add(id(inner))
                routes.append(inner)


def _routes(holder: object) -> list[object]:
    """Return what is called its routes, which in other frameworks may be anything."""
    try:
        routes = getattr(holder, "routes", None)
        return list(cast("Sequence[object]", routes)) if isinstance(routes, Sequence) else []
    except Exception:  # noqa: BLE001 - whatever it does when it is looked at
        return []


def innermost(holder: object, name: str, ends: tuple[type, ...]) -> tuple[object, str, Any]:
    """Look through middleware, most of which calls what it is around ``app``.

    Args:
        holder: What is around.
        name: The name under which that has what it is around.
        ends: What is not looked through.

    Returns:
        What holds the innermost application, under which name, and that; nothing has no end.
    """
    for _ in range(_LAYERS):
        app = _kept(holder, name)
        if isinstance(app, ends) or not _is_asgi(_kept(app, "app")):
            return holder, name, app
        holder, name = app, "app"
    return holder, name, None


def _kept(holder: object, name: str) -> Any:  # noqa: ANN401 - whatever it is
    """Return an attribute that is there, or nothing; what is made when it is asked for is left."""
    try:
        # Not `getattr_static`: it takes ten times as long, and an application has many routes.
        is_made = isinstance(getattr(type(holder), name, None), property | cached_property)
        return None if is_made else getattr(holder, name)
    except Exception:  # noqa: BLE001 - a slot may be empty, and a descriptor do whatever it likes
        return None


def _is_asgi(app: object) -> bool:
    """Whether it is called as ASGI applications are; others too have something called ``app``.

    What is for WSGI takes two arguments, and many a function of users takes any number.
    """
    called = getattr(app, "__call__", None)  # noqa: B004 - to look at it
    is_async = iscoroutinefunction(app) or iscoroutinefunction(called)
    return _takes(app, 3) and (is_async or not (_takes(app, 2) or _takes(app, 4)))


def _takes(app: object, number: int) -> bool:
    try:
        signature(cast("Callable[..., object]", app)).bind(*range(number))
    except Exception:  # noqa: BLE001 - whatever it is, and whatever it does when it is looked at
        return False
    return True
