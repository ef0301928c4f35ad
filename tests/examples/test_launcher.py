"""`hatch run example` lists the programs, and starts each."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy import create_engine

from examples import activity_log
from examples.__main__ import PROGRAMS, main
from tests.examples.programs import ROOT, client, launched


@pytest.mark.parametrize("name", PROGRAMS)
def test_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program that the launcher knows starts, and stops."""
    monkeypatch.setattr(activity_log, "engine", create_engine("sqlite://"))  # not a file here
    with client(PROGRAMS[name].removeprefix("examples.")):
        pass


def test_command_line() -> None:
    """A program that is started by its name answers on the port that it says."""
    with launched("orders") as address:
        assert not address.endswith(":8000")
        response = httpx.post(f"{address}/orders", params={"item": "tea"})
        assert response.status_code == 201
        assert response.json() == {"number": 1}


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name, each program has a line that says what it does."""
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == list(PROGRAMS)
    assert all(line.endswith(".") for line in lines)


def test_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not known is refused, and the error lists those that are."""
    with pytest.raises(SystemExit):
        main(["celery"])
    assert "webhooks-litestar" in capsys.readouterr().err


def test_none_is_forgotten() -> None:
    """The launcher knows every program of examples/."""
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in ROOT.glob("examples/**/*.py")
        if "\napp = " in file.read_text(encoding="utf-8")
    }
    assert modules - {"examples.demo_app"} == set(PROGRAMS.values())
