"""Errors by what happens next. A refusal (what QBot denies) is a value, `types.Verdict`; an error is what broke."""

# What reading an answer raises that has another form than the documented one; the last: one nested too deeply.
UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)


class QBotError(Exception):
    """Base of every error QBot raises on purpose."""


class ConfigError(QBotError):
    """The environment or a setting is unusable. The process does not start; a human must change it."""


class StackError(QBotError):
    """The embedded stack cannot start or went down. The message says what to do."""


class DataUnavailable(QBotError):
    """A provider gave no usable data. The tick ends without a trade; the next tick tries again."""


class CalendarUnavailable(QBotError):
    """The exchange calendar cannot be used: whether the market is open is unknown, so nothing is entered."""


class BrokerError(QBotError):
    """The broker could not be asked. Nothing is known to have changed; the next tick asks again."""


class BrokerRejected(BrokerError):
    """The venue refused an order for good: the intent ends as rejected and is not sent again."""

    def __init__(self, message: str, *, status: int, code: int | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class OrderInDoubt(BrokerError):
    """The order may or may not have reached the venue. It is settled by lookup, never by a second send."""


class StoreUnavailable(QBotError):
    """Postgres cannot be reached: nothing may be sent, since no intent can be committed."""


class AlreadyCommitted(QBotError):
    """Another run has committed this very cycle: nothing was written, nothing is sent. The next cycle is a new one."""


class AdoptionRefused(QBotError):
    """The broker's positions were not taken over: nothing was written. The message says what to do first."""


class BoardUnavailable(QBotError):
    """Redis cannot be reached: entries stop, since neither session nor settings can be read."""


class ArtifactError(QBotError):
    """A model file is missing, corrupt or not the one recorded: there is no ML signal until it is replaced."""


class RollbackRefused(QBotError):
    """No other artifact was made to stand: nothing was written. The message says why."""


class TrainingFailed(QBotError):
    """No new artifact came of a training run. The standing one stays in use; the next trigger tries again."""


class EvaluationError(QBotError):
    """The bars or forecasts cannot be evaluated. Nothing was written; the message says what to give instead."""
