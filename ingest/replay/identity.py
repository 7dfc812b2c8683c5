"""Names the checkpoint of a replay, and finds out whether it belongs to what is replayed now."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from infra.errors import SettingsError
from ingest.replay.checkpoint import Checkpoint
from ingest.replay.errors import CheckpointError
from schemas.timestamps import format_utc, utc_now

Identity = Mapping[str, str | int | None]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
# An archive that was changed keeps its name, so that the error can say so.
_NOT_IN_NAME = ("size", "written")


def checkpoint_folder(data_dir: Path, name: str | None, identity: Identity) -> Path:
    """Return the folder of the checkpoint ``name``, by default one of source and device. Raises SettingsError."""
    if name is None:
        wanted = {key: value for key, value in identity.items() if key not in _NOT_IN_NAME}
        digest = sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
        last = str(identity["address"]).rstrip("/").rpartition("/")[2]
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', last).strip('-')[:40] or 'replay'}-{digest}"
    elif _NAME.fullmatch(name) is None:
        raise SettingsError(
            f"--name is {name[:100]!r}; it takes up to 100 letters, digits, dots, dashes and underscores"
        )
    return data_dir / "replays" / name


def begin(checkpoint: Checkpoint, identity: Identity) -> None:
    """Note in a new checkpoint what it is for. Raises CheckpointError when it is for something else."""
    state = checkpoint.state
    if not state.identity:
        state.identity, state.began_at = dict(identity), format_utc(utc_now())
        return
    differing = [key for key in {**state.identity, **identity} if state.identity.get(key) != identity.get(key)]
    if differing:
        texts = ", ".join(f"{key} was {state.identity.get(key)}, is {identity.get(key)}" for key in differing)
        raise CheckpointError(
            f"the checkpoint {checkpoint.folder.name} belongs to another replay, or its source changed: {texts}. Begin "
            "anew with --restart, or give this replay its own --name"
        )


def begin_again(checkpoint: Checkpoint) -> None:
    """Look at the whole source again; frames that were published are not published again."""
    state = checkpoint.state
    state.cursor, state.finished_at, state.began_at = None, None, format_utc(utc_now())
    state.accepted = state.known = state.refused = state.size_bytes = 0
    checkpoint.forget_refused()
    checkpoint.write()
