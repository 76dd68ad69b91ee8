"""Exploration records with a planted answer, as an exploration pass would write them."""

import numpy as np
import pandas as pd


def planted_records(
    rng: np.random.Generator,
    *,
    n_features: int = 60,
    n_true: int = 12,
    n_shadows: int = 40,
    folds: tuple[str, ...] = ("2018-01-01", "2019-01-01", "2020-01-01", "2021-01-01"),
    n_seeds: int = 3,
    strength: float = 6.0,
    permutation_noise: float = 0.05,
) -> pd.DataFrame:
    """Weights of true features are ``strength`` times those of noise and shadows.

    Permutation importance is the weight times ``1 ± permutation_noise``; features are
    ``f00`` (true ones first) and shadows ``shadow_00``.
    """
    names = [f"f{i:02d}" for i in range(n_features)]
    names += [f"shadow_{i:02d}" for i in range(n_shadows)]
    level = np.where(np.arange(len(names)) < n_true, strength, 1.0)
    # an input overfits the same accident in every run, and a fresh one in each
    level = level * rng.gamma(8.0, 1 / 8.0, len(names))
    parts = []
    for fold in folds:
        for seed in range(n_seeds):
            raw = level * rng.gamma(8.0, 1 / 8.0, len(names))
            weight = raw / raw.sum()
            permutation = weight * (1 + permutation_noise * rng.standard_normal(len(names)))
            parts.append(
                pd.DataFrame(
                    {
                        "fold": fold,
                        "seed": seed,
                        "feature": names,
                        "is_shadow": [name.startswith("shadow") for name in names],
                        "weight": weight,
                        "lift": weight * len(names),
                        "perm_dposition": np.abs(permutation),
                        "perm_dsharpe": permutation,
                        "ig": np.abs(permutation),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def null_records(
    rng: np.random.Generator,
    *,
    n_features: int = 60,
    n_shadows: int = 40,
    n_folds: int = 4,
    n_seeds: int = 3,
) -> pd.DataFrame:
    """An untrained network: softmax of independent unit-variance logits, seeds unrelated."""
    names = [f"f{i:02d}" for i in range(n_features)]
    names += [f"shadow_{i:02d}" for i in range(n_shadows)]
    parts = []
    for fold in range(n_folds):
        for seed in range(n_seeds):
            raw = np.exp(rng.standard_normal(len(names)))
            weight = raw / raw.sum()
            parts.append(
                pd.DataFrame(
                    {
                        "fold": f"{2018 + fold}-01-01",
                        "seed": seed,
                        "feature": names,
                        "is_shadow": [name.startswith("shadow") for name in names],
                        "weight": weight,
                        "lift": weight * len(names),
                        "perm_dposition": weight,
                        "perm_dsharpe": rng.standard_normal(len(names)) * 0.1,
                        "ig": weight,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
