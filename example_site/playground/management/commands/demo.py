from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from example_site.playground.models import Room

USERS = ["demo", "guest"]
PASSWORD = "demo"
ROOMS = {"lobby": "Lobby", "garden": "Garden", "workshop": "Workshop"}


class Command(BaseCommand):
    help = "Prepare the database of the demo: tables, two users, three rooms. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        for username in USERS:
            user, created = get_user_model().objects.get_or_create(username=username)
            if created:
                user.set_password(PASSWORD)
                user.save()
        for slug, title in ROOMS.items():
            Room.objects.get_or_create(slug=slug, defaults={"title": title})
        self.stdout.write(f"Ready. Log in as {' or '.join(USERS)}, the password is {PASSWORD!r}.")
