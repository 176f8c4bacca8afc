"""The folders of a state: open to nginx's workers where they must be, closed everywhere else."""

from __future__ import annotations

import os
from pathlib import Path

from proxyctl.adapters.places import Places


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_folders_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    places = Places(tmp_path / "new" / "shop")
    before = os.umask(0o077)
    try:
        for _ in range(2):
            places.create()
    finally:
        os.umask(before)
    for folder in (places.root.parent, places.root, places.public, places.generations, places.splits, places.temp):
        assert mode(folder) == 0o755
    assert mode(places.nginx_logs) == 0o711
    for folder in (places.private, places.locks, places.run, places.logs):
        assert mode(folder) == 0o700


def test_a_folder_that_was_opened_too_far_is_closed_again(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.create()
    places.private.chmod(0o755)
    places.create()
    assert mode(places.private) == 0o700


def test_a_root_that_stands_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    Places(tmp_path).create()
    assert mode(tmp_path) == 0o750
