"""All kinds of input."""

from fuzz.exchanges import Answers, Messages
from fuzz.fleets import Fleets
from fuzz.settings import Configurations, Environments
from fuzz.spools import Spools
from fuzz.statuses import Statuses
from fuzz.stores import StoreAnswers
from fuzz.trials import Kind
from fuzz.urls import Urls

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(Messages(), Answers(), Fleets(), Environments(), Configurations(), Urls(), Spools()),
        *(Statuses(), StoreAnswers()),
    )
}
