"""Broker, PostgreSQL, generator and processor: as containers, or as processes of this machine."""

from .compose import ComposeStack
from .local import LocalStack
from .settings import Settings

STACKS = {"compose": ComposeStack, "local": LocalStack}

__all__ = ["STACKS", "ComposeStack", "LocalStack", "Settings"]
