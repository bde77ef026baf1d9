from django_ws_dispatch.asgi import get_asgi_application

application = get_asgi_application()
