"""The settings of an application's layers, and what is refused among them."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from tasks_core import TaskConfig, TasksScheduler

from ._access import NAME

if TYPE_CHECKING:
    from litestar.handlers import BaseRouteHandler


class ProvideTasks(Provide):
    """The plugin's dependency."""


def merge_layers(handler: BaseRouteHandler) -> tuple[object, TaskConfig | None]:
    """Return a handler's application, and the settings of all its layers, weakest first."""
    merged: TaskConfig | None = None
    application, *_ = layers = handler.ownership_layers
    for layer in layers:
        config = cast("TaskConfig | None", (layer.opt or {}).get(NAME))
        if config is not None:
            merged = config if merged is None else merged.merge(config)
    return application, merged


def check_handler(handler: Any) -> None:  # noqa: ANN401 - of whatever kind
    """Refuse settings that are none, and what has our name and is not for tasks."""
    application, *layers = handler.ownership_layers
    check_opt(application.opt, "The application")
    for layer in layers:
        check_opt(layer.opt or {}, str(layer))
    check_name(application.dependencies)
    providers = handler.resolve_dependencies()
    if not isinstance(providers.get(NAME), ProvideTasks):
        return  # the layer has a dependency of its own of this name, as it may
    functions = {handler.handler_name: handler, **providers}
    for name, function in functions.items():
        field = function.parsed_fn_signature.parameters.get(NAME)
        kind = None if field is None else field.annotation
        if kind is not None and not _may_be_tasks(kind):
            shown = kind.__name__ if isinstance(kind, type) else str(kind)
            msg = (
                f'"{NAME}" is the parameter of {name} for the request\'s tasks, which TasksPlugin '
                f"provides; it is annotated as {shown}. Annotate it with Tasks, or give it another "
                "name."
            )
            raise ImproperlyConfiguredException(msg)


def check_name(dependencies: Mapping[str, Any]) -> None:
    """Refuse a dependency of the application's own, or of another plugin's, that has our name."""
    if not isinstance(dependencies.get(NAME), ProvideTasks | None):
        msg = (
            f'The application has a dependency "{NAME}" of its own, and TasksPlugin provides '
            "the request's tasks under that name: give yours another one."
        )
        raise ImproperlyConfiguredException(msg)


_MEANT: Final = ("__value__", "__supertype__", "__bound__")
"""Where an alias of a ``type`` statement, a `NewType` and a `TypeVar` have what they stand for."""


def _may_be_tasks(kind: object) -> bool:
    """Whether a scheduler fits an annotation, as far as that can be told."""
    origin = get_origin(kind) or kind
    if origin is Annotated:  # up to Python 3.12 a class, which no scheduler is of
        return _may_be_tasks(get_args(kind)[0])
    if origin in {Union, UnionType}:
        return any(map(_may_be_tasks, get_args(kind)))
    if origin is Literal:
        return False
    if origin is Any or not isinstance(origin, type):
        return all(_may_be_tasks(getattr(origin, it)) for it in _MEANT if hasattr(origin, it))
    try:
        return issubclass(TasksScheduler, origin)
    except TypeError:  # most protocols do not tell
        return True


def check_opt(opt: Mapping[str, Any], layer: str) -> None:
    """Refuse settings of a layer that are none."""
    config = opt.get(NAME)
    if config is not None and not isinstance(config, TaskConfig):
        is_class = isinstance(config, type)
        kind = f"the class {config.__name__}" if is_class else type(config).__name__
        msg = f'{layer} has {kind} in opt["{NAME}"], which is for a TaskConfig(...).'
        raise ImproperlyConfiguredException(msg)
