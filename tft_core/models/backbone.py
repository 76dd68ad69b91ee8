"""X-Trend behind the predecessor's interface: dense tensors in, one network, one directory.

Training, tuning and inference work on flat rows (``ensemble``, ``batching``); this class is
for notebooks and for code that already holds [batch, step, feature] tensors. It runs the
very same network.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tft_core.errors import CheckpointError, ModelError
from tft_core.models.config import XTrendConfig
from tft_core.models.heads import HeadOutput
from tft_core.models.io import read_json, read_tensors, write_json, write_tensors
from tft_core.models.network import Batch, ContextRows, XTrend
from tft_core.models.variable_selection import IdentifiedSelection

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "backbone.json"


class XTrendBackbone(nn.Module):
    """One X-Trend network with the names of its features."""

    def __init__(self, config: XTrendConfig, feature_names: Sequence[str]) -> None:
        super().__init__()
        if len(feature_names) != config.n_features:
            raise ModelError(
                f"feature_names must number {config.n_features}, as the configuration says, "
                f"found {len(feature_names)}"
            )
        self.config = config
        self.feature_names = tuple(feature_names)
        self.model = XTrend(config)

    @property
    def d_hidden(self) -> int:
        return self.config.d_hidden

    def forward(
        self,
        target_seq: Float[Tensor, "batch step feature"],
        context_set: Float[Tensor, "batch context context_step feature_and_label"],
        target_id: Int[Tensor, " batch"],
        context_ids: Int[Tensor, "batch context"],
    ) -> HeadOutput:
        """A position (and forecast, if the head has one) at every step.

        Args:
            target_seq: Scaled features, NaN replaced by 0.
            context_set: The same, and as last column the next label y/σ of each step. It
                must end before the target's first step that counts: the caller's duty here.
            target_id: Asset numbers from 0; −1 is the unknown asset.
        """
        return self.model(self._batch(target_seq, context_set, target_id, context_ids))

    def extract_hidden(
        self, target_seq: Tensor, context_set: Tensor, target_id: Tensor, context_ids: Tensor
    ) -> Float[Tensor, "batch hidden"]:
        """Decoder state at the last step."""
        return self.extract_hidden_with_attention(target_seq, context_set, target_id, context_ids)[
            0
        ]

    def extract_hidden_with_attention(
        self, target_seq: Tensor, context_set: Tensor, target_id: Tensor, context_ids: Tensor
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch head step context"] | None]:
        """Decoder state at the last step, and each head's weights over the contexts."""
        batch = self._batch(target_seq, context_set, target_id, context_ids)
        states, attention = self.model.states(batch)
        return states[:, -1], attention

    def predict_position(
        self, target_seq: Tensor, context_set: Tensor, target_id: Tensor, context_ids: Tensor
    ) -> Float[Tensor, "batch 1"]:
        """Position of the last step, whatever the head."""
        return self(target_seq, context_set, target_id, context_ids).z[:, -1:]

    @torch.no_grad()
    def get_feature_importance(
        self,
        features: Float[Tensor, "row feature"] | None = None,
        target_id: Int[Tensor, " row"] | None = None,
    ) -> dict[str, float]:
        """Selection weight of each feature; the weights sum to one.

        Args:
            features: Rows to average over, with ``target_id`` their assets. Needed by the
                forms whose weights differ from row to row, ignored by the identified one.

        Raises:
            ModelError: The form needs rows and none were given: a made-up probe row would
                describe no data the model has seen.
        """
        selection = self.model.main_selection
        if isinstance(selection, IdentifiedSelection):
            weights = selection.static_weights()
        elif features is None or target_id is None:
            raise ModelError(
                f"feature importance of the {self.config.vsn} form must be given rows and their "
                "assets, found none"
            )
        else:
            weights = self.selection_weights(features[:, None], target_id)[:, 0].mean(dim=0)
        return dict(zip(self.feature_names, weights.double().tolist(), strict=True))

    @torch.no_grad()
    def selection_weights(
        self, target_seq: Float[Tensor, "batch step feature"], target_id: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch step feature"]:
        """Selection weights of every sample and step, with the sample's entity as context.

        They sum to one over the features. The identified form's are the same at every step.

        Raises:
            ModelError: The network has no VSN.
        """
        n_batch, length, n_features = target_seq.shape
        entity, group = torch.unique(target_id + 1, return_inverse=True)
        rows = target_seq.flatten(0, 1)
        none = torch.empty(0, length, dtype=torch.int64, device=rows.device)
        batch = Batch(
            x=rows,
            coverage=rows.new_ones(len(rows)),
            label=rows.new_zeros(len(rows)),
            group=group.repeat_interleave(length),
            entity=entity,
            index=none,
            window_group=none[:, 0],
            target_part=none[:, 0],
            context_part=none[:, 0],
        )
        was_training = self.model.training
        self.model.eval()
        weights = self.model.selection_weights(batch)
        self.model.train(was_training)
        return weights.view(n_batch, length, n_features)

    def pretrain(self, trainer: Callable[[XTrendConfig], XTrend]) -> "XTrendBackbone":
        """Take over the network that a trainer makes for this configuration.

        Models don't import training, so the trainer is handed in, for example
        ``lambda config: train_member(rows, fit, val, config, TrainingConfig(), seed).member``.
        """
        trained = trainer(self.config)
        self.model.load_state_dict(trained.state_dict())
        self.model.eval()
        return self

    def save_production_checkpoint(
        self, checkpoint_dir: str | Path, extras: Mapping[str, Any] | None = None
    ) -> Path:
        """Write weights and configuration to a directory.

        A registry version, with manifest and history, is ``CheckpointManager.save``.

        Args:
            extras: Plain JSON values to keep beside them (scaler, dates, figures).
        """
        folder = Path(checkpoint_dir)
        write_tensors(folder / WEIGHTS_FILE, self.model.state_dict())
        write_json(
            folder / CONFIG_FILE,
            {
                "config": self.config.to_dict(),
                "feature_names": list(self.feature_names),
                "extras": dict(extras or {}),
            },
        )
        return folder

    @classmethod
    def load_production_checkpoint(
        cls, checkpoint_dir: str | Path
    ) -> tuple["XTrendBackbone", dict[str, Any]]:
        """Read what ``save_production_checkpoint`` wrote: the backbone and the extras.

        Raises:
            CheckpointError: A file is missing or damaged, or doesn't fit the configuration.
        """
        folder = Path(checkpoint_dir)
        stored = read_json(folder / CONFIG_FILE)
        if not isinstance(stored, dict) or set(stored) != {"config", "feature_names", "extras"}:
            raise CheckpointError(
                f"{folder / CONFIG_FILE} must hold config, feature_names and extras, found "
                f"{sorted(stored) if isinstance(stored, dict) else type(stored).__name__}"
            )
        with torch.random.fork_rng(devices=[]):  # initial weights are thrown away
            backbone = cls(XTrendConfig.from_dict(stored["config"]), stored["feature_names"])
        expected = backbone.model.state_dict()
        backbone.model.load_state_dict(read_tensors(folder / WEIGHTS_FILE, expected))
        backbone.eval()
        return backbone, stored["extras"]

    def _batch(
        self, target_seq: Tensor, context_set: Tensor, target_id: Tensor, context_ids: Tensor
    ) -> Batch:
        """Every step of every sequence as a row of its own."""
        n_batch, length, n_features = target_seq.shape
        config, device = self.config, target_seq.device
        if n_features != config.n_features:
            raise ModelError(
                f"target_seq must hold {config.n_features} features, found {n_features}"
            )
        x = [target_seq.flatten(0, 1)]
        label = [target_seq.new_zeros(n_batch * length)]
        ids = [target_id.repeat_interleave(length)]
        n_rows = n_batch * length
        index = torch.arange(n_rows, device=device).view(n_batch, length)
        contexts = None
        entity, group_of_id = torch.unique(
            torch.cat([target_id, context_ids.flatten()]) + 1, return_inverse=True
        )
        if config.uses_context:
            if context_set.shape[-1] != n_features + 1:
                raise ModelError(
                    f"context_set must hold {n_features} features and the next label, found "
                    f"{context_set.shape[-1]} columns"
                )
            n_context, ctx_len = context_set.shape[1:3]
            rows = context_set.flatten(0, 2)
            x.append(rows[:, :-1])
            label.append(rows[:, -1])
            ids.append(context_ids.flatten().repeat_interleave(ctx_len))
            pool = n_batch * n_context
            contexts = ContextRows(
                index=n_rows + torch.arange(pool * ctx_len, device=device).view(pool, ctx_len),
                group=group_of_id[n_batch:],
                choice=torch.arange(pool, device=device).view(n_batch, n_context),
            )
        joined = torch.cat(x)
        return Batch(
            x=joined,
            coverage=joined.new_ones(len(joined)),
            label=torch.cat(label),
            group=torch.searchsorted(entity, torch.cat(ids) + 1),
            entity=entity,
            index=index,
            window_group=group_of_id[:n_batch],
            target_part=index.flatten(),
            context_part=torch.arange(n_rows, len(joined), device=device),
            contexts=contexts,
        )
