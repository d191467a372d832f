"""The errors minifc raises on purpose.

Every message is one line that says what failed, where, and what to do about it.
The commands print that line and exit with status 2; a traceback appears only
with `--debug`.
"""


class MinifcError(Exception):
    """Anything the user can mend. Catch this one to catch them all."""


class ConfigError(MinifcError):
    """A config.json that is missing, malformed, or of a model minifc cannot represent."""


class CheckpointError(MinifcError):
    """A weights or adapter file that is missing, cut short, or does not fit the model."""


class HubError(MinifcError):
    """The Hugging Face hub does not give what was asked for, or cannot be reached."""


class TokenizerError(MinifcError):
    """A tokenizer file that is missing or unreadable, or a token that cannot be added."""


class TemplateError(MinifcError):
    """Messages that cannot be rendered: an unknown role, a turn out of place."""


class CallError(MinifcError):
    """A tool, or a call of one, that cannot be read."""


class SchemaError(MinifcError):
    """A tool's schema that says what minifc does not support, or contradicts itself."""


class DataError(MinifcError):
    """A data file, or a row of one, that cannot be learned from."""


class OptionError(MinifcError):
    """An option that does not exist or a value it cannot take."""


class ParameterError(OptionError):
    """A parameter with a value that it cannot take; a command names the option instead."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        super().__init__(f"{name}={value}: {rule}")
        self.name, self.value, self.rule = name, value, rule

    def as_option(self, option: str = "") -> OptionError:
        """The same error, naming the option of a command; by default the parameter's name with hyphens."""
        return OptionError(f"--{option or self.name.replace('_', '-')} {self.value}: {self.rule}")


class TrainingError(MinifcError):
    """Training that cannot start or go on."""


# What torch's allocators and systems say of it, in small letters, where the error has no class of its own: CUDA, its
# libraries, MPS, Linux, macOS and Windows.
_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "_status_alloc_failed",
    "invalid buffer size",
    "paging file is too small",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out: this error says so, or one that was being handled when it was raised.

    Messages of minifc's own are not looked into: they quote files and data.
    """
    while error is not None:
        said = "" if isinstance(error, MinifcError) else str(error).lower()
        if isinstance(error, MemoryError) or any(words in said for words in _OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: BaseException) -> str:
    """What another library's error says, as far as it fits into one line of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0]
