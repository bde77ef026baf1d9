"""The tables of the database broker, to which nobody but the broker writes.

A *number* is the microseconds since 1970 by the database's clock at which something was sent, or
one more than the last number: numbers go up in the order in which messages came to be there for
all, and none comes twice. A *channel* is the hash of its name: of any length, any characters.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from . import tables

__all__ = ["Channel", "Counter", "Here", "Message", "Room", "Tracked", "Tracker"]


class Message(models.Model):
    """What was sent."""

    number = models.BigIntegerField(null=True)  # none until it is there for all
    channel = models.CharField(max_length=32)
    kind = models.SmallIntegerField(default=tables.PLAIN)
    # How its channel is kept: how many messages, and for how many microseconds behind the last one.
    keep = models.IntegerField(default=0)
    ttl = models.BigIntegerField(default=0)
    # By which a second attempt finds what the first one has written.
    nonce = models.CharField(max_length=16)
    message = models.BinaryField()

    class Meta:
        db_table = tables.MESSAGES
        indexes: ClassVar = [
            models.Index(fields=["number"], name="dwd_message_number"),
            models.Index(fields=["channel", "number"], name="dwd_message_channel"),
            models.Index(fields=["channel", "kind", "number"], name="dwd_message_kind"),
        ]


class Channel(models.Model):
    """Where a channel stands that is kept, apart from its messages."""

    channel = models.CharField(max_length=32, primary_key=True)
    # When its memory began. It is part of every position.
    epoch = models.BigIntegerField()
    # The number of the last message that is gone, and how many orders of this epoch are.
    floor = models.BigIntegerField()
    orders = models.BigIntegerField(default=0)
    # When it has to be looked at, and until when the row stays, though no message does.
    due = models.BigIntegerField()
    alive = models.BigIntegerField()

    class Meta:
        db_table = tables.CHANNELS
        indexes: ClassVar = [models.Index(fields=["due"], name="dwd_channel_due")]


class Counter(models.Model):
    """The last number that was given out (MySQL), and up to which number rows were looked at."""

    id = models.SmallIntegerField(primary_key=True)
    value = models.BigIntegerField(default=0)

    class Meta:
        db_table = tables.COUNTERS


class Room(models.Model):
    """A channel that knows who is here."""

    channel = models.CharField(max_length=32, primary_key=True)
    # Two parts of the version of what is here.
    epoch = models.BigIntegerField()
    version = models.BigIntegerField(default=0)
    # Until when nobody is taken for gone, and until when the row stays though nobody says anything.
    grace = models.BigIntegerField(default=0)
    due = models.BigIntegerField()

    class Meta:
        db_table = tables.ROOMS
        indexes: ClassVar = [models.Index(fields=["due"], name="dwd_room_due")]


class Here(models.Model):
    """A key that is here."""

    channel = models.CharField(max_length=32)
    key_hash = models.CharField(max_length=32)
    who = models.BinaryField()
    since = models.BigIntegerField()
    sockets = models.IntegerField(default=0)
    info = models.BinaryField()
    # When it lingers no more; none as long as it has sockets.
    lingers = models.BigIntegerField(null=True)

    class Meta:
        db_table = tables.HERE
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["channel", "key_hash"], name="dwd_here_key")
        ]
        indexes: ClassVar = [
            models.Index(fields=["channel", "since"], name="dwd_here_since"),
            models.Index(fields=["channel", "lingers"], name="dwd_here_lingers"),
        ]


class Tracker(models.Model):
    """One event loop that says how many sockets it has in a channel."""

    channel = models.CharField(max_length=32)
    tracker = models.CharField(max_length=64)
    # When it has to have said something.
    expires = models.BigIntegerField()

    class Meta:
        db_table = tables.TRACKERS
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["channel", "tracker"], name="dwd_tracker")
        ]
        indexes: ClassVar = [
            models.Index(fields=["channel", "expires"], name="dwd_tracker_expires")
        ]


class Tracked(models.Model):
    """How many sockets of a key a tracker has."""

    channel = models.CharField(max_length=32)
    tracker = models.CharField(max_length=64)
    key_hash = models.CharField(max_length=32)
    sockets = models.IntegerField()

    class Meta:
        db_table = tables.TRACKED
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["channel", "tracker", "key_hash"], name="dwd_tracked")
        ]
