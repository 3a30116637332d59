"""The reference client: what a frontend in any language should imitate. Start at `api.QBotClient`.

It knows a Redis server and `qbot.contract`, nothing else of QBot, and sends only commands that the Redis user
`frontend` may send.
"""

from qbot.client.api import QBotClient as QBotClient
from qbot.client.errors import EmergencyLatched as EmergencyLatched
from qbot.client.errors import KeyUnusable as KeyUnusable
from qbot.client.errors import NotAllowed as NotAllowed
from qbot.client.errors import NotInTime as NotInTime
from qbot.client.errors import OrderNotFinal as OrderNotFinal
from qbot.client.errors import StartNotTakenUp as StartNotTakenUp
from qbot.client.errors import WrongPassword as WrongPassword
from qbot.client.following import Change as Change
from qbot.client.following import ChangeKind as ChangeKind
from qbot.client.link import State as State
from qbot.contract.payloads_autotrading import BackendStatus as BackendStatus
from qbot.contract.payloads_orders import EmergencyKind as EmergencyKind
from qbot.contract.payloads_orders import ManualOrderStatus as ManualOrderStatus
from qbot.errors import BoardUnavailable as BoardUnavailable
