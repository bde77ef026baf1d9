from django.apps import AppConfig


class PlaygroundConfig(AppConfig):
    name = "example_site.playground"
