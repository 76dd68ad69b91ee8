"""Training histories as stored: one row per member and epoch, without wall times."""

import pandas as pd


def epochs_table(histories: pd.DataFrame) -> pd.DataFrame:
    """Columns ``member, phase, epoch, train_loss, val_sharpe, lr, features_left, steps``.

    ``member`` is the seed; ``phase`` is ``refit`` for the refit, which has no validation.
    Seconds are left out: they differ between two runs of the same training.
    """
    is_refit = histories["stage"] == "refit"
    return pd.DataFrame(
        {
            "member": histories["seed"],
            "phase": histories["phase"].mask(is_refit, "refit"),
            "epoch": histories["epochs_done"],
            "train_loss": histories["loss"],
            "val_sharpe": histories["val_sharpe"],
            "lr": histories["lr"],
            "features_left": histories["features_left"],
            "steps": histories["steps"],
        }
    )
