"""What a frontend must tell its user. Redis out of reach is `BoardUnavailable`; an invalid argument is a ValueError."""

from __future__ import annotations

from qbot.errors import QBotError


class WrongPassword(QBotError):
    """Redis refused user or password. Trying again does not help; a human must give the right one."""


class NotAllowed(QBotError):
    """Redis does not let this user do it, such as writing one of QBot's own keys. Nothing was written."""


class KeyUnusable(QBotError):
    """A shared key holds something invalid, so nothing can be added to it. Nothing was written."""


class EmergencyLatched(QBotError):
    """The emergency stop is latched: no start is accepted until a human releases it. Nothing was started."""


class StartNotTakenUp(QBotError):
    """QBot did not take up the start in time. It was withdrawn, so that it does not come true later; where Redis cannot
    be reached for that, the message says that it may stand.
    """


class NotInTime(QBotError):
    """What was waited for did not happen in time. The message says what stands there instead."""


class OrderNotFinal(NotInTime):
    """A manual order is neither filled nor cancelled nor rejected yet. It still stands, unless the message says so."""
