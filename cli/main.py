"""The app and its verbs, one module each."""

import typer

from cli.boxes import boxes
from cli.replay import replay
from cli.reproduce import ManyValues, reproduce
from cli.score import score
from cli.serve import serve
from cli.training import compare, evaluate, export, train

app = typer.Typer(
    help="CARE: image diagnosis of rare diseases, with the reason shown. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # its decorated tracebacks print local variables, and those may hold patients' names
    pretty_exceptions_enable=False,
)


@app.callback()
def _main() -> None:
    """Keep the verb on the command line, however few verbs there are."""


# what a model is used with
app.command()(serve)
app.command()(score)
app.command()(replay)

# what a model is made with
app.add_typer(boxes, name="boxes")
for verb in (train, export, evaluate, compare):
    app.command()(verb)
app.command(cls=ManyValues)(reproduce)
