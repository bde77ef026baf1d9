"""The tables, and PostgreSQL's trigger that numbers messages where their transaction commits."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

__all__ = ["Migration", "OnPostgreSQL"]

# One transaction after the other numbers what it has inserted, as the last thing that it does, and
# the lock is held until all others see it: so the order of the numbers is that of the commits. A
# sequence goes by what is so now, whatever the transaction sees. NOTIFY says the same for all rows
# of a transaction, and so only once.
FUNCTION = """
CREATE FUNCTION django_ws_dispatch_number() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  numbers regclass := format('%I.%I', TG_TABLE_SCHEMA, 'django_ws_dispatch_numbers')::regclass;
  fresh bigint;
BEGIN
  PERFORM pg_advisory_xact_lock((1466135652::bigint << 31) | TG_RELID::bigint);
  fresh := setval(numbers, greatest(nextval(numbers),
    (extract(epoch from clock_timestamp()) * 1000000)::bigint));
  EXECUTE format('UPDATE %I.%I SET number = $1 WHERE id = $2', TG_TABLE_SCHEMA, TG_TABLE_NAME)
    USING fresh, NEW.id;
  PERFORM pg_notify(TG_TABLE_NAME || '_' || TG_RELID, txid_current()::text);
  RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER django_ws_dispatch_number AFTER INSERT ON django_ws_dispatch_message
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION django_ws_dispatch_number()
"""


class OnPostgreSQL(migrations.RunSQL):
    """SQL that other databases do not know."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    """Makes the tables."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Counter",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("value", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "django_ws_dispatch_counter",
            },
        ),
        migrations.CreateModel(
            name="Channel",
            fields=[
                ("channel", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("epoch", models.BigIntegerField()),
                ("floor", models.BigIntegerField()),
                ("orders", models.BigIntegerField(default=0)),
                ("due", models.BigIntegerField()),
                ("alive", models.BigIntegerField()),
            ],
            options={
                "db_table": "django_ws_dispatch_channel",
                "indexes": [models.Index(fields=["due"], name="dwd_channel_due")],
            },
        ),
        migrations.CreateModel(
            name="Here",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("channel", models.CharField(max_length=32)),
                ("key_hash", models.CharField(max_length=32)),
                ("who", models.BinaryField()),
                ("since", models.BigIntegerField()),
                ("sockets", models.IntegerField(default=0)),
                ("info", models.BinaryField()),
                ("lingers", models.BigIntegerField(null=True)),
            ],
            options={
                "db_table": "django_ws_dispatch_here",
                "indexes": [
                    models.Index(fields=["channel", "since"], name="dwd_here_since"),
                    models.Index(fields=["channel", "lingers"], name="dwd_here_lingers"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("channel", "key_hash"), name="dwd_here_key")
                ],
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.BigIntegerField(null=True)),
                ("channel", models.CharField(max_length=32)),
                ("kind", models.SmallIntegerField(default=0)),
                ("keep", models.IntegerField(default=0)),
                ("ttl", models.BigIntegerField(default=0)),
                ("nonce", models.CharField(max_length=16)),
                ("message", models.BinaryField()),
            ],
            options={
                "db_table": "django_ws_dispatch_message",
                "indexes": [
                    models.Index(fields=["number"], name="dwd_message_number"),
                    models.Index(fields=["channel", "number"], name="dwd_message_channel"),
                    models.Index(fields=["channel", "kind", "number"], name="dwd_message_kind"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Room",
            fields=[
                ("channel", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("epoch", models.BigIntegerField()),
                ("version", models.BigIntegerField(default=0)),
                ("grace", models.BigIntegerField(default=0)),
                ("due", models.BigIntegerField()),
            ],
            options={
                "db_table": "django_ws_dispatch_room",
                "indexes": [models.Index(fields=["due"], name="dwd_room_due")],
            },
        ),
        migrations.CreateModel(
            name="Tracked",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("channel", models.CharField(max_length=32)),
                ("tracker", models.CharField(max_length=64)),
                ("key_hash", models.CharField(max_length=32)),
                ("sockets", models.IntegerField()),
            ],
            options={
                "db_table": "django_ws_dispatch_tracked",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("channel", "tracker", "key_hash"), name="dwd_tracked"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Tracker",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("channel", models.CharField(max_length=32)),
                ("tracker", models.CharField(max_length=64)),
                ("expires", models.BigIntegerField()),
            ],
            options={
                "db_table": "django_ws_dispatch_tracker",
                "indexes": [
                    models.Index(fields=["channel", "expires"], name="dwd_tracker_expires")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("channel", "tracker"), name="dwd_tracker")
                ],
            },
        ),
        OnPostgreSQL(
            ["CREATE SEQUENCE django_ws_dispatch_numbers", FUNCTION, TRIGGER],
            [
                "DROP TRIGGER django_ws_dispatch_number ON django_ws_dispatch_message",
                "DROP FUNCTION django_ws_dispatch_number()",
                "DROP SEQUENCE django_ws_dispatch_numbers",
            ],
        ),
    ]
