"""`selfdraft bench`: measurements that can be made again."""

from selfdraft.cli.bench.report import report
from selfdraft.cli.bench.run import run
from selfdraft.cli.bench.serve import serve
from selfdraft.cli.bench.speed import speed
from selfdraft.cli.command import add_command, new_group

bench = new_group("bench", "Measure, by commands that can be run again.")
for command in (run, speed, report, serve):
    add_command(bench, command)
