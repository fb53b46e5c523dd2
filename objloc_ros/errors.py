"""The package's exceptions: one family, each message naming the value and the constraint it broke."""


class ObjlocError(Exception):
    """Base of every error that objloc_ros raises on purpose."""


class InputError(ObjlocError, ValueError):
    """An image, a feature tensor or a message that cannot be processed."""


class ParameterError(ObjlocError, ValueError):
    """A parameter or an option outside its allowed values."""


class WeightsError(ObjlocError, RuntimeError):
    """Weights that are missing, have the wrong hash or the wrong layout."""
