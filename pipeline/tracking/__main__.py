"""Delivery by hand: `python -m pipeline.tracking ship` sends what the tracking store has not received.

Stages start it as `follow`, to deliver what they record while their pipeline runs.
"""

import logging
import sys

from pipeline.ncsn.errors import UserError
from pipeline.redaction import redact
from pipeline.tracking import provenance, shipping

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """
    Raises:
        UserError: there is no such command, or not all could be delivered.
    """
    if arguments not in (["ship"], ["follow"]):
        raise UserError("usage: python -m pipeline.tracking ship")
    root = provenance.root()
    if arguments == ["follow"]:
        shipping.follow(root)
    elif left := shipping.ship(root):
        why = left[0].delivered().problem
        raise UserError(f"{len(left)} records wait in {left[0].path.parent}: {why}")
    else:
        logger.info("all records have been delivered")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.stderr.write(f"error: {redact(str(error))}\n")
        sys.exit(2)
