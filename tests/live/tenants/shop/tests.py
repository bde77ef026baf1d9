"""A test as docs/howto/tenants.md has it; test_tenants.py runs it with Django's own runner."""

from django_tenants.test.cases import TenantTestCase

from django_ws_dispatch import groups
from django_ws_dispatch.groups import Group
from django_ws_dispatch.testing import WebSocketClient

from .models import Item


class ShopTests(TenantTestCase):
    async def test_a_socket_sees_the_rows_of_its_tenant(self) -> None:
        await Item.objects.acreate(text="ours")
        async with WebSocketClient().connect(self.url("by-the-orm")) as socket:
            await socket.send("rows")
            assert await socket.receive_json() == ["ours"]
        assert await Item.objects.acount() == 1

    async def test_a_socket_hears_what_is_said_in_its_namespace(self) -> None:
        async with WebSocketClient().connect(self.url("listens")) as socket:
            with groups.namespace("another"):
                await Group("lobby").asend("for somebody else")
            with groups.namespace(self.tenant.schema_name):
                await Group("lobby").asend("for us")
            assert await socket.receive() == "for us"

    def url(self, name: str) -> str:
        return f"ws://{self.domain.domain}/ws/{name}/"
