"""Why a store did not take what it was told."""

from pipeline.ncsn.errors import UserError


class RefusedError(UserError):
    """The store answers, and will never do this."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri}: {reason}")


class UnreachableError(UserError):
    """The store cannot be used: wrongly named, or not up."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"MLFLOW_TRACKING_URI={uri} cannot be used ({reason}). Start the server, unset the variable for "
            "a local store, or set tracking.enabled: false in params.yaml."
        )
