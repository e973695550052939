"""Every error that selfdraft raises for something its user can put right.

    SelfdraftError
    ├── ConfigError              a setting is out of range, or contradicts another
    │   └── SkipSetError         a skip set is malformed or does not fit the model
    ├── PromptError              the prompt is empty, malformed, or does not fit the context
    ├── ModelNotFoundError       no such alias, folder, file or hub id; or no network to fetch it
    ├── CorruptDownloadError     a downloaded or cached file is not what it should be
    ├── UnsupportedModelError    the model's structure would make the output wrong
    ├── ServerError              a server that is talked to is not there, or does not do its part
    └── PeerError                another program that is measured does not do its part

Each message says what is wrong, with the value, and then what to do. What is no error and still
worth a word is a `SelfdraftWarning`.
"""


class SelfdraftError(Exception):
    """Base of all errors that selfdraft raises on purpose."""


class ConfigError(SelfdraftError, ValueError):
    """A setting is out of range or contradicts another."""


class SkipSetError(ConfigError):
    """A skip set is malformed, or names sublayers that may not be skipped."""


class PromptError(SelfdraftError, ValueError):
    """The prompt is empty, malformed, or leaves no room in the model's context."""


class ModelNotFoundError(SelfdraftError, FileNotFoundError):
    """Nothing loadable stands behind the given model name."""


class CorruptDownloadError(SelfdraftError, OSError):
    """A file does not have the content it should have."""


class UnsupportedModelError(SelfdraftError, NotImplementedError):
    """The model cannot be decoded speculatively without risking its output."""


class ServerError(SelfdraftError, ConnectionError):
    """A server that is talked to cannot be reached, or does not answer as it should."""


class PeerError(SelfdraftError, RuntimeError):
    """Another program that is measured ended, or does not answer as it should."""


class SelfdraftWarning(UserWarning):
    """Something works in another way than a user may expect."""
