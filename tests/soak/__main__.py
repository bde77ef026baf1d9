"""``python -m tests.soak --seconds 60 --seed 1``"""

import argparse
import sys

from tests.soak.program import Options, soak

parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
parser.add_argument("--seconds", type=float, default=Options().seconds)
parser.add_argument("--seed", type=int, default=Options().seed)
parser.add_argument("--clients", type=int, default=Options().clients, help="at a time")
parser.add_argument(
    "--kills",
    type=float,
    default=Options().kills,
    help="seconds between two kills of the broker of the groups that remember; 0 for none",
)
parser.add_argument(
    "--leave-out",
    type=int,
    default=0,
    metavar="N",
    help="clients overlook one message out of N; ends once that is found, with status 1 if not",
)
options = Options(**vars(parser.parse_args()))

program = soak(options)
sys.stdout.write(program.report())
sys.exit(bool(program.ledger.violations) != bool(options.leave_out))
