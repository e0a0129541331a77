"""MongoDB: the rights that a collector needs and its user lacks, by what the server tells of the user."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec


class _Resource(msgspec.Struct, rename="camel"):
    """What a privilege is about; an empty name stands for every database, or every collection."""

    db: str | None = None
    collection: str | None = None
    any_resource: bool = False

    def includes(self, database: str, collection: str) -> bool:
        return self.any_resource or (self.db in ("", database) and self.collection in ("", collection))


class _Privilege(msgspec.Struct):
    resource: _Resource
    actions: list[str]


class _User(msgspec.Struct):
    user: str
    db: str


class _Login(msgspec.Struct, rename="camel"):
    """Who a connection is, and what that user may do."""

    authenticated_users: list[_User] = []
    authenticated_user_privileges: list[_Privilege] = []


def lacking_rights(told: object, database: str, needed: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return which rights the user lacks, and how they are granted; None if it lacks none.

    A server without users allows everything; one that tells no privileges does not say what it allows.

    Args:
        told: ``authInfo`` in the answer to the command connectionStatus.
        database: where the collections are.
        needed: collections, each with an action.

    Raises msgspec.ValidationError if ``told`` is something else.
    """
    login = msgspec.convert(told, _Login)
    if not (login.authenticated_users and login.authenticated_user_privileges):
        return None
    lacking: dict[str, list[str]] = defaultdict(list)
    for collection, action in needed:
        if not any(
            action in each.actions and each.resource.includes(database, collection)
            for each in login.authenticated_user_privileges
        ):
            lacking[action].append(collection)
    if not lacking:
        return None
    user = login.authenticated_users[0]
    what = ", ".join(f"no {action} on {', '.join(of)}" for action, of in lacking.items())
    grant = f'grantRolesToUser("{user.user}", [{{role: "readWrite", db: "{database}"}}])'
    return (
        f"{user.user} has {what}",
        f'as an administrator, run `db.getSiblingDB("{user.db}").{grant}` in mongosh',
    )
