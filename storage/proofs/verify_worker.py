"""A worker process of a verification: it is given parts on stdin, and answers on stdout, a line each.

A process, because a million hashes keep a core busy, and because a damaged file may bring a reader down: the
parent then still knows which part it was.
"""

import gc
import sys
from pathlib import Path

import msgspec

from tidelog.events.typed import decoder
from tidelog.storage.proofs.parts import Part
from tidelog.storage.proofs.verify_part import PartVerifier


def main() -> None:
    """Answers until stdin ends."""
    verifier = PartVerifier(Path(sys.argv[1]), alone=True)
    gc.disable()  # rows and headers hold no cycles, and there are millions of them
    for line in sys.stdin.buffer:
        result = verifier.verify(decoder(Part)(line))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
