"""The contract's promises by number, as the table names them."""

from __future__ import annotations

from typing import Final

PROMISES: Final = {
    "1.1": "Immediate",
    "1.2": "After route",
    "1.3": "After response",
    "1.4": "Order",
    "1.5": "A phase that has passed",
    "1.6": "Failed requests",
    "1.7": "Disconnects",
    "1.8": "Streaming, files, HEAD, 204, WebSocket, mounts, sub-dependencies",
    "2.1": "Sync and async",
    "2.2": "Early errors",
    "2.3": "From anywhere",
    "2.4": "Context",
    "2.5": "Threads of its own",
    "2.6": "Handle",
    "2.7": "Wherever the request is served",
    "2.8": "Without a request",
    "3.1": "Nothing is set by default",
    "3.2": "Merging",
    "3.3": "Layers",
    "3.4": "Configured ways to schedule",
    "4.1": "Containment",
    "4.2": "Logged once",
    "4.3": "Handlers",
    "4.4": "Re-running",
    "5.1": "Inside of the application's own lifespan",
    "5.2": "Waiting and cancelling",
    "5.3": "Report",
    "5.4": "Begun and refused",
    "5.5": "Cancellation",
    "5.6": "No runner",
    "5.7": "Errors and restarts",
    "7.1": "Registry",
    "7.2": "Progress",
    "7.3": "Stopping",
    "7.4": "Waiting",
    "7.5": "Tests",
}
