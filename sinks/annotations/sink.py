"""Posts what is found in media to the Annotations service, with the token of the caller.

A frame is posted once: what was taken is noted in the database, and a post whose response was lost is made again with
the same ``Idempotency-Key``. Frames in which nothing was found are not posted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from infra.database.pool import Database
from infra.encryption.box import SecretBox, SecretUnreadableError
from infra.errors import RecordError, RefusedError
from infra.failure.error_texts import is_transient
from infra.storage.frames.port import FrameStore
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from sinks.annotations.attempts import Attempts, Recent
from sinks.annotations.calls import AnnotationsClient, NoResponseError, PostResponse
from sinks.annotations.errors import (
    AnnotationRefusedError,
    AnnotationsAddressError,
    AnnotationsUnavailableError,
    TokenForgottenError,
)
from sinks.annotations.payloads import post_body, post_id
from sinks.annotations.records import (
    CHECK,
    PURPOSE,
    CallersToken,
    Key,
    Note,
    ask_for_refresh,
    media_of,
    noted_among,
    token_of,
    write_notes,
)
from sinks.annotations.responses import Returned, is_of_service, read_response
from sinks.annotations.settings import AnnotationsSettings
from sinks.metrics import ANNOTATIONS

logger = logging.getLogger(__name__)

_OF_RUN = (401, 403, 404, 410)
"""Responses about the token or the medium, and so about all frames of a run"""
_LONGEST_PAUSE_S = 60.0
_REMEMBER_S = 60.0


@dataclass(frozen=True, slots=True)
class _Post:
    """Is a frame to post."""

    key: Key
    media_id: str
    event: DetectionsMade


class AnnotationsSink:
    """Is the sink; only media whose callers sent a token are posted."""

    name: str = "annotations"
    event: type[DetectionsMade] = DetectionsMade
    topics: tuple[str, ...] = (DETECTIONS,)

    def __init__(
        self, database: Database, store: FrameStore, box: SecretBox, settings: AnnotationsSettings, url: str
    ) -> None:
        """``url``: where the service is."""
        self._database = database
        self._store = store
        self._box = box
        self._settings = settings
        self._client = AnnotationsClient(url, settings)
        self._attempts = Attempts(settings)
        # Taken, but not noted yet, because the database was away.
        self._taken: Recent[Key, Note] = Recent()
        # Refused in a batch, until the loop has found them one by one, so that each is posted once.
        self._refused: Recent[Key, tuple[float, RecordError]] = Recent()
        # By run: a token that was refused and whose refresh was asked for.
        self._stale: Recent[UUID, bytes] = Recent()
        self._quiet_until = 0.0

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK)

    async def close(self) -> None:
        """Close the connections to the service; those of the database belong to the process."""
        await self._client.close()

    async def write(self, events: Sequence[DetectionsMade]) -> None:
        """Post those of ``events`` that are of media, once each.

        Raises AnnotationsUnavailableError and other transient errors (write them again: what was taken is not posted
        again), and a RecordError for one that can never be taken.
        """
        posts = await self._posts_of(events)
        if not posts:
            return
        self._require_no_pause()
        errors = await self._post_all(posts)
        waiting = [error for error in errors.values() if not isinstance(error, RecordError)]
        if waiting:
            # What fails in the program comes first: it must not look like a service that is away.
            raise next((error for error in waiting if not is_transient(error)), waiting[0])
        for key, error in errors.items():
            if len(events) == 1:
                self._refused.drop(key)
            raise error

    async def _posts_of(self, events: Sequence[DetectionsMade]) -> list[_Post]:
        """Return what is to post of ``events``, and note those in which nothing was found."""
        by_key = {(event.job_id, event.frame_id): event for event in reversed(events) if event.job_id is not None}
        if not by_key:
            return []
        async with self._database.acquire() as connection:
            media = await media_of(connection, {run for run, _ in by_key})
            keys = [key for key in by_key if key[0] in media]
            noted = await noted_among(connection, keys) if keys else set()
        wanted = [_Post(key, media[key[0]], by_key[key]) for key in reversed(keys) if key not in noted]
        empty = [Note(post.key, posted=False) for post in wanted if not post.event.detections]
        if empty:
            async with self._database.acquire(writing=True) as connection:
                await write_notes(connection, empty)
        return [post for post in wanted if post.event.detections]

    async def _post_all(self, posts: Sequence[_Post]) -> Mapping[Key, Exception]:
        """Make ``posts``, several at a time; return the errors of those that were not taken.

        Those that failed before come last. No more are begun once the service is away, or fails at all of them.
        """
        errors: dict[Key, Exception] = {}
        waiting = deque(sorted(posts, key=lambda post: self._attempts.has_failed(post.key)))
        in_a_row = 0

        async def work() -> None:
            nonlocal in_a_row
            while waiting and in_a_row < self._settings.concurrency:
                post = waiting.popleft()
                try:
                    await self._post(post)
                    in_a_row = 0
                except RecordError as error:
                    errors[post.key] = error
                    in_a_row = 0
                except Exception as error:  # noqa: BLE001 (the others are posted before it is raised)
                    errors[post.key] = error
                    in_a_row += 1

        await asyncio.gather(*(work() for _ in range(min(self._settings.concurrency, len(posts)))))
        for post in waiting:
            errors.setdefault(post.key, AnnotationsUnavailableError("posts wait, because the ones before them failed"))
        return errors

    async def _post(self, post: _Post) -> None:
        """Make one post, and note that it was taken. Raises the error that says what becomes of it."""
        note = self._taken.get(post.key)
        if note is None:
            note = await self._call_once(post)
            self._taken.put(post.key, note)
        async with self._database.acquire(writing=True) as connection:
            await write_notes(connection, [note])
        self._taken.drop(post.key)

    async def _call_once(self, post: _Post) -> Note:
        """Make one post, or raise the error of a moment ago with which it was refused."""
        at, error = self._refused.get(post.key) or (0.0, None)
        if error is not None and time.monotonic() - at < _REMEMBER_S:
            raise error
        try:
            return await self._call(post)
        except RecordError as refused:
            self._refused.put(post.key, (time.monotonic(), refused))
            raise

    async def _call(self, post: _Post) -> Note:
        run = post.key[0]
        async with self._database.acquire() as connection:
            kept = await token_of(connection, run)
        token = self._token_in(kept, post)
        body = await asyncio.to_thread(post_body, post.media_id, post.event, await self._image_of(post.event))
        try:
            response = await self._client.post(body, post_id(*post.key), token)
        except NoResponseError as error:
            ANNOTATIONS.labels("failed").inc()
            raise self._attempts.error_after(post.key, f"{self._client.where} gave {error}") from error
        except AnnotationsUnavailableError:
            ANNOTATIONS.labels("away").inc()
            self._attempts.note_away()
            raise
        if not response.is_taken:
            raise await self._error_of(post, response, kept, token)
        if not is_of_service(response.body, response.media_type):
            ANNOTATIONS.labels("failed").inc()
            reason = (
                f"{self._client.where} {response.text(token)}. That is no JSON, so a proxy or a sign-in page may have "
                "sent it, and nothing counts as posted; correct media.annotations_url "
                "(STANDGALE_MEDIA__ANNOTATIONS_URL), or what stands between"
            )
            raise self._attempts.error_after(post.key, reason, is_elsewhere=True)
        ANNOTATIONS.labels("taken").inc()
        self._attempts.note_taken(post.key)
        # When this token expires, too, another one is asked for.
        self._stale.drop(run)
        returned = await asyncio.to_thread(read_response, response.body, post.event)
        _warn_of_unreadable(post, response, returned)
        return Note(post.key, True, returned.annotation_id, returned.rows)

    def _token_in(self, kept: CallersToken, post: _Post) -> str:
        if kept.encrypted is not None:
            try:
                return self._box.decrypt(kept.encrypted, PURPOSE)
            except SecretUnreadableError as error:
                # Other keys than those of the console: nothing can be posted until a person corrects it.
                raise RefusedError(f"nothing is posted for medium {post.media_id!r}: {error}") from error
        if self._settings.token is not None:
            return self._settings.token.get_secret_value()
        raise self._attempts.for_run(
            TokenForgottenError(
                f"the token for medium {post.media_id!r} was forgotten, because its time after the end of the medium "
                "(media.token_keep_s) is over; detect the medium again, or give a token of your own, "
                f"{self._settings.named('token')}, and re-drive this letter"
            ),
            post.key[0],
        )

    async def _image_of(self, event: DetectionsMade) -> bytes | None:
        if not self._settings.image or event.image.size_bytes > self._settings.max_image_bytes:
            return None
        return await self._store.get(event.image)

    async def _error_of(self, post: _Post, response: PostResponse, kept: CallersToken, token: str) -> Exception:
        """Return what becomes of a post that was answered, and not taken."""
        text = response.text(token)
        if response.is_later:
            ANNOTATIONS.labels("failed").inc()
            self._pause_for(response.retry_after_s)
            return self._attempts.error_after(post.key, f"{self._client.where} {text}")
        ANNOTATIONS.labels("refused").inc()
        if 300 <= response.status < 400 or response.status < 200:
            return AnnotationsAddressError(
                f"{self._client.where} {text}; redirects are not followed, because tokens go "
                "with them: correct media.annotations_url (STANDGALE_MEDIA__ANNOTATIONS_URL)"
            )
        run = post.key[0]
        if response.status == 401 and kept.encrypted is not None and await self._may_be_refreshed(run, kept):
            return self._attempts.error_after(post.key, f"{self._client.where} {text}", is_callers=True)
        error = AnnotationRefusedError(f"{self._client.where} {text}; it was about a frame of medium {post.media_id!r}")
        return self._attempts.for_run(error, run) if response.status in _OF_RUN else error

    async def _may_be_refreshed(self, run: UUID, kept: CallersToken) -> bool:
        """Ask for a new token instead of one that was refused; return False where that is a new one already."""
        stale = self._stale.get(run)
        if kept.encrypted is None or not kept.is_refreshable or stale not in (None, kept.encrypted):
            return False
        if stale is None:
            self._stale.put(run, kept.encrypted)
            async with self._database.acquire(writing=True) as connection:
                await ask_for_refresh(connection, run, kept.encrypted)
        return True

    def _pause_for(self, asked_s: float | None) -> None:
        if asked_s is not None:
            self._quiet_until = max(self._quiet_until, time.monotonic() + min(asked_s, _LONGEST_PAUSE_S))

    def _require_no_pause(self) -> None:
        left_s = self._quiet_until - time.monotonic()
        if left_s > 0:
            raise AnnotationsUnavailableError(
                f"the Annotations service asked to wait; posts go on in {left_s:.0f} s (Retry-After)"
            )


def _warn_of_unreadable(post: _Post, response: PostResponse, returned: Returned) -> None:
    if response.body is None or returned.unreadable:
        logger.warning(
            "annotations that came back for medium %s are left out: %s",
            post.media_id,
            "the response is too large" if response.body is None else f"{returned.unreadable} cannot be read",
        )
