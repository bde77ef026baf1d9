"""``python -m tests.soak --seconds 60 --seed 1``"""

import argparse
import sys

from tests.soak.program import soak

parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
parser.add_argument("--seconds", type=float, default=60.0)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--clients", type=int, default=300, help="at a time")
options = parser.parse_args()

program = soak(options.seconds, options.seed, options.clients)
sys.stdout.write(program.report())
sys.exit(1 if program.ledger.violations else 0)
