"""Asks for the lease on a folder, says ``held`` or ``busy``, and then does what it reads: ``land NAME``, ``leave``."""

from __future__ import annotations

import sys
from pathlib import Path

from ops import lease, turns


def main(folder: Path, beat_s: float) -> None:
    try:
        with lease.held(folder / "turns", beat_s=beat_s) as own:
            print("held", flush=True)
            for line in sys.stdin:
                if line == "leave\n":
                    return
                draft = own / "draft"
                draft.write_text("made")
                turns.land(own, draft, folder / line.split()[1])
                print("landed", flush=True)
    except lease.LeaseHeld:
        print("busy", flush=True)
    except turns.TurnLost:
        print("lost", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
