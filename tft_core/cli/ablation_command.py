"""Command ``ablation``: does training on fewer features help?"""

from argparse import Namespace

from tft_core.cli.answer import Answer, table
from tft_core.cli.progress import progress_bar
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
    with progress_bar("tft ablation", unit="run") as show:
        result = ablate(Workspace.open(settings), key, config, show)
    page = result.write(settings.reports_dir / f"ablation-{key}")
    text = (
        f"{result.sentence}\n{table(result.arms)}\n"
        f"{table(result.comparisons.set_index('arm'))}\nreport: {page}"
    )
    return Answer({**result.to_dict(), "report": str(page)}, text)
