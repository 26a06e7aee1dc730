"""The few exceptions of occam-sdk; everything else is a builtin ``TypeError`` or ``ValueError``."""


class OccamError(Exception):
    """Base class of the three below: a clip, a bundle or a runtime that cannot be used."""


class MediaError(OccamError, ValueError):
    """A clip, a picture or a sound cannot be used; the message names the file and the remedy."""


class BundleError(OccamError, ValueError):
    """A model bundle is incomplete, altered or of another format; the message names the file."""


class BackendError(OccamError, RuntimeError):
    """A runtime or a device that was asked for is not there; the message says how to get it."""


class BackendWarning(UserWarning):
    """Something else runs than what was asked for; ``strict=True`` makes it a ``BackendError``."""
