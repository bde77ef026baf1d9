"""``python -m tests.live.chaos --seed 1 --outages 200``"""

import argparse
import sys

from tests.live.chaos.program import SESSIONS, Program

parser = argparse.ArgumentParser(prog="python -m tests.live.chaos", description=__doc__)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--outages", type=int, default=200)
parser.add_argument("--users", type=int, default=15, help="at a time")
parser.add_argument("--sessions", choices=SESSIONS, default="db")
parser.add_argument(
    "--quiet", type=float, default=0, help="seconds after which it is judged once more"
)
parser.add_argument("--calm", action="store_true", help="leave the broker alone")
parser.add_argument("--logs", help="a folder for the logs of the two servers")
options = parser.parse_args()

program = Program(options.seed, options.outages, options.users, options.sessions, options.calm)
program.run(options.quiet, options.logs)
sys.stdout.write(program.report())
sys.exit(1 if program.wrong else 0)
