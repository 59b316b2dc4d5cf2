"""The parts' log files are bounded and tell a dead part's last words."""

from __future__ import annotations

import os
from pathlib import Path

from services.mesh.supervisor.logs import last_lines, open_log, rotate


def test_a_large_log_is_moved_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "part.log"
    log = open_log(path)
    os.write(log, b"x" * 100)
    rotate(path, limit=200)
    assert path.stat().st_size == 100
    os.write(log, b"x" * 150)
    rotate(path, limit=200)
    os.write(log, b"after\n")
    os.close(log)
    assert path.read_bytes() == b"after\n"
    assert path.with_suffix(".log.1").stat().st_size == 250


def test_last_words_are_those_of_this_run(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.write_bytes(b"an older run\n")
    begin = path.stat().st_size
    assert last_lines(path, begin) == []
    with path.open("ab") as log:
        log.write(b"first\nlast \xff word\n\n")
    assert last_lines(path, begin) == ["last \ufffd word"]
    assert last_lines(path, begin, count=5) == ["first", "last \ufffd word"]
    assert last_lines(tmp_path / "missing.log") == []
