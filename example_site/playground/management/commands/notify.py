from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from example_site.playground.models import Notice


class Command(BaseCommand):
    help = (
        "Send a notice to the open notification pages. The server and this command must share a "
        "broker: start both with REDIS_URL."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text")
        parser.add_argument(
            "--user", metavar="NAME", help="one user's pages instead of everybody's"
        )

    def handle(self, *args: Any, text: str, user: str | None, **options: Any) -> None:
        model = get_user_model()
        try:
            receiver = model.objects.get_by_natural_key(user) if user else None
        except model.DoesNotExist as exc:
            raise CommandError(f"There is no user {user!r}. Run `manage.py demo` first.") from exc
        with transaction.atomic():
            notice = Notice.objects.create(user=receiver, text=text[:200])
            transaction.on_commit(notice.publish)
