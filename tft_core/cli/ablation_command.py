"""Command ``ablation``: does training on fewer features help?"""

import sys
from argparse import Namespace

from tqdm import tqdm

from tft_core.cli.answer import Answer, table
from tft_core.config import load_settings
from tft_core.schema import LIVE_FOLD


def ablation(arguments: Namespace) -> Answer:
    """Train on the inner folds of a fold; table, page and raw returns under ``reports/``."""
    from tft_core.training_pipeline.ablation import AblationConfig, ablate
    from tft_core.training_pipeline.workspace import Workspace

    settings = load_settings()
    key = arguments.fold or LIVE_FOLD
    config = AblationConfig(
        sizes=tuple(arguments.sizes), n_draws=arguments.draws, n_seeds=arguments.seeds
    )
    with tqdm(total=1, unit="run", disable=not sys.stderr.isatty(), desc="tft ablation") as bar:

        def show(line: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(line)
            bar.update(done - bar.n)

        result = ablate(Workspace.open(settings), key, config, show)
    page = result.write(settings.home / "reports" / f"ablation-{key}")
    text = (
        f"{result.sentence}\n{table(result.arms)}\n"
        f"{table(result.comparisons.set_index('arm'))}\nreport: {page}"
    )
    return Answer({**result.to_dict(), "report": str(page)}, text)
