"""`python -m research`: gathers the commands of the experiments."""

from research.commands.overhead import overhead
from research.commands.search import search
from research.commands.stream import stream
from selfdraft.cli.app import start
from selfdraft.cli.command import add_command, new_group

app = new_group("research", "Experiments on search and drafts, by commands that can be run again.")
for command in (overhead, search, stream):
    add_command(app, command)

if __name__ == "__main__":
    start(app)
