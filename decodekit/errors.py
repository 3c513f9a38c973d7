"""
Every error decodekit raises on purpose.

* DecodekitError       carries a stable `code` and the exit status of the command line
  * BundleError        the model folder is incomplete, altered or not one            (2)
    * BundleHashError  a file differs from what the manifest says                    (2)
    * CanaryError      it answers otherwise here than where it was checked           (2)
  * TokenizerError     tokenizer.json cannot be read                                 (2)
  * TemplateError      the chat template failed or asked for too much                (2)
  * ParameterError     a value outside its domain; also a ValueError                 (2)
  * PromptError        a prompt that cannot be decoded; also a ValueError            (2)
    * ContextError     prompt and answer do not fit the context window               (2)
  * InputError         a file of lines that cannot be used; also a ValueError        (2)
    * RecordError      a record that is malformed or cannot be decoded again         (2)
    * JobError         a job that was begun with something else                      (2)
  * ErrorLimitError    more rows of a job failed than may                            (2)
  * UnknownNameError   nothing of that name is installed; also a KeyError            (2)
  * DeviceError        the asked-for device is not to be had                         (3)
  * PluginError        an installed plugin cannot be used                            (3)
  * OutputError        a file that cannot be written                                 (3)
    * LockedError      another process writes it                                     (3)
  * StrategyError      a strategy raised while a token was chosen                    (4)
    * ContractError    a strategy broke a law of its contract                        (4)
  * NumericalError     the model's logits are not numbers                            (4)
  * EngineError        the engine takes no requests                                  (4)
    * QueueFullError   too many requests wait already                                (3)
    * EngineClosedError  it was closed                                               (4)
    * EngineStalledError a step takes too long                                       (4)
    * ForkedError      it belongs to another process                                 (3)
  * SessionBusyError   two threads use one session                                   (4)
* PluginWarning        an installed plugin failed to load and is skipped
"""


class DecodekitError(Exception):
    """Base class: `except DecodekitError` catches everything below."""

    code = "E_INTERNAL"
    exit_code = 4


class BundleError(DecodekitError):
    """The model folder is incomplete, altered or not one."""

    code = "E_BUNDLE"
    exit_code = 2


class BundleHashError(BundleError):
    """A file differs from what the manifest says."""

    code = "E_BUNDLE_HASH"


class CanaryError(BundleError):
    """The bundle answers otherwise here than where it was checked."""

    code = "E_CANARY"


class TokenizerError(DecodekitError):
    """tokenizer.json cannot be read."""

    code = "E_TOKENIZER"
    exit_code = 2


class TemplateError(DecodekitError):
    """The chat template failed or asked for too much."""

    code = "E_TEMPLATE"
    exit_code = 2


class ParameterError(DecodekitError, ValueError):
    """A value outside its domain."""

    code = "E_PARAMETER"
    exit_code = 2


class PromptError(DecodekitError, ValueError):
    """A prompt that cannot be decoded."""

    code = "E_PROMPT"
    exit_code = 2


class ContextError(PromptError):
    """Prompt and answer do not fit the context window."""

    code = "E_CONTEXT"


class InputError(DecodekitError, ValueError):
    """A file of lines that cannot be used."""

    code = "E_INPUT"
    exit_code = 2


class RecordError(InputError):
    """A record that is malformed or cannot be decoded again."""

    code = "E_RECORD"


class JobError(InputError):
    """A job that was begun with something else."""

    code = "E_JOB"


class ErrorLimitError(DecodekitError):
    """More rows of a job failed than may."""

    code = "E_ERROR_LIMIT"
    exit_code = 2


class UnknownNameError(DecodekitError, KeyError):
    """Nothing of that name is installed."""

    code = "E_UNKNOWN_NAME"
    exit_code = 2

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class DeviceError(DecodekitError):
    """The asked-for device is not to be had."""

    code = "E_DEVICE"
    exit_code = 3


class PluginError(DecodekitError):
    """An installed plugin cannot be used."""

    code = "E_PLUGIN"
    exit_code = 3


class OutputError(DecodekitError, OSError):
    """A file that cannot be written."""

    code = "E_OUTPUT"
    exit_code = 3


class LockedError(OutputError):
    """Another process writes it."""

    code = "E_LOCKED"


class StrategyError(DecodekitError):
    """A strategy raised while a token was chosen."""

    code = "E_STRATEGY"


class ContractError(StrategyError):
    """A strategy broke a law of its contract."""

    code = "E_CONTRACT"


class NumericalError(DecodekitError):
    """The model's logits are not numbers."""

    code = "E_NUMERICAL"


class EngineError(DecodekitError, RuntimeError):
    """The engine takes no requests."""

    code = "E_ENGINE"


class QueueFullError(EngineError):
    """Too many requests wait already."""

    code = "E_QUEUE_FULL"
    exit_code = 3


class EngineClosedError(EngineError):
    """It was closed."""

    code = "E_CLOSED"


class EngineStalledError(EngineError):
    """A step takes too long."""

    code = "E_STALLED"


class ForkedError(EngineError):
    """It belongs to another process."""

    code = "E_FORKED"
    exit_code = 3


class SessionBusyError(DecodekitError, RuntimeError):
    """Two threads use one session."""

    code = "E_SESSION_BUSY"


class PluginWarning(UserWarning):
    """An installed plugin failed to load and is skipped."""
