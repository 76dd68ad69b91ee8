import dataclasses

import numpy as np
import pytest
import torch
from row_tables import planted_rows, poisoned

from tft_core.errors import CheckpointError, ConfigError, ModelError
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble, make_bank
from tft_core.models.io import weight_hash
from tft_core.models.network import XTrend
from tft_core.sequences import sample_contexts, window_index

ROWS = planted_rows(n_assets=3, n_days=90, n_features=6, late={2: 40})


def untrained(n_members: int = 2, **changes) -> Ensemble:
    """Random weights, running statistics of one batch, banks before date 50."""
    config = XTrendConfig.smoke(n_features=6, n_assets=3, **changes)
    members, banks = [], []
    for seed in range(n_members):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            member = XTrend(config)
            tensors = RowTensors.of(ROWS, config)
            contexts = None
            if config.uses_context:
                contexts = sample_contexts(
                    ROWS,
                    config.n_context,
                    config.ctx_len,
                    config.context_mode,
                    np.random.default_rng(seed),
                    before_date_index=50,
                )
            choice = np.zeros((20, config.n_context), np.int64) if contexts else None
            index = np.arange(20)[:, None] + np.arange(config.seq_len)
            member.train()(tensors.batch(index, contexts, choice))
            bank = make_bank(member, tensors, contexts, ROWS) if contexts else None
        members.append(member)
        banks.append(bank)
    return Ensemble(config, members, banks)


FORMS = [
    {},
    {"context_mode": "none"},
    {"context_mode": "time", "ctx_len": 16},
    {"context_mode": "segment", "share_vsn": False},
    {"vsn": "paper", "share_vsn": False},
    {"vsn": "tft", "loss_mode": "joint_mle"},
    {"loss_mode": "joint_quantile", "lstm_layers": 2},
]


@pytest.mark.parametrize("changes", FORMS)
def test_a_rows_position_does_not_depend_on_what_else_is_in_the_batch(changes: dict) -> None:
    ensemble = untrained(**changes)
    at = np.array([3, 20, 55, 100, 150, 185, 200, 229])
    together = ensemble.predict(ROWS, at)
    for i, row in enumerate(at):
        alone = ensemble.predict(ROWS, np.array([row]))
        np.testing.assert_allclose(alone.member_z[:, 0], together.member_z[:, i], atol=1e-6)
        if together.mu is not None and together.sigma is not None:
            assert alone.mu is not None and alone.sigma is not None
            np.testing.assert_allclose(alone.mu[0], together.mu[i], atol=1e-6)
            np.testing.assert_allclose(alone.sigma[0], together.sigma[i], atol=1e-6)
        if together.quantiles is not None:
            assert alone.quantiles is not None
            np.testing.assert_allclose(alone.quantiles[0], together.quantiles[i], atol=1e-6)
    assert np.unique(together.z).size > 4


@pytest.mark.parametrize("changes", FORMS[:4])
def test_replacing_the_future_leaves_past_positions_bit_identical(changes: dict) -> None:
    ensemble = untrained(**changes)
    past = np.flatnonzero(ROWS.date_index < 60)
    before = ensemble.predict(ROWS, past).member_z
    after = ensemble.predict(poisoned(ROWS, 60), past).member_z
    np.testing.assert_array_equal(before, after)


def test_predicting_is_repeatable_and_leaves_the_callers_random_state_alone() -> None:
    ensemble = untrained()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = ensemble.predict(ROWS, np.arange(30)).member_z
    np.testing.assert_array_equal(first, ensemble.predict(ROWS, np.arange(30)).member_z)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("changes", FORMS)
def test_an_ensemble_survives_its_state_dict(changes: dict) -> None:
    ensemble = untrained(**changes)
    state = ensemble.state_dict()
    again = Ensemble.from_state(ensemble.config, state)
    assert weight_hash(again.state_dict()) == weight_hash(state)
    at = np.arange(0, 200, 13)
    np.testing.assert_array_equal(
        again.predict(ROWS, at).member_z, ensemble.predict(ROWS, at).member_z
    )


def test_a_restored_ensemble_lies_in_memory_of_its_own_aligned_for_the_blas() -> None:
    ensemble = untrained()
    state = {}
    for name, tensor in ensemble.state_dict().items():
        padded = torch.zeros(tensor.numel() + 4, dtype=tensor.dtype)
        state[name] = padded[4:].view(tensor.shape).copy_(tensor)  # as a file's bytes may lie
    again = Ensemble.from_state(ensemble.config, state)
    held = [t for bank in again.banks if bank is not None for t in bank]
    held += [p for member in again.members for p in member.parameters()]
    assert len(held) > 20
    assert {tensor.data_ptr() % 64 for tensor in held if tensor.numel()} == {0}


def test_a_state_that_does_not_fit_is_refused_by_name() -> None:
    ensemble = untrained()
    state = ensemble.state_dict()
    with pytest.raises(CheckpointError, match="1 differences: member_0/intruder is not expected"):
        Ensemble.from_state(ensemble.config, {**state, "member_0/intruder": torch.zeros(1)})
    name = "member_1/embedding.weight"
    with pytest.raises(CheckpointError, match=f"1 differences: {name} is missing"):
        Ensemble.from_state(ensemble.config, {k: v for k, v in state.items() if k != name})
    with pytest.raises(CheckpointError, match=r"bank_0/keys must have shape .*found \(1,\)"):
        Ensemble.from_state(ensemble.config, {**state, "bank_0/keys": torch.zeros(1)})


def test_all_leaves_that_do_not_fit_are_named_at_once() -> None:
    ensemble = untrained()
    state = ensemble.state_dict()
    del state["member_1/embedding.weight"]
    state["bank_0/available"] = state["bank_0/available"].double()
    state["bank_1/keys"] = torch.zeros(2)
    state["stranger"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match="found 4 differences") as refused:
        Ensemble.from_state(ensemble.config, state)
    for part in (
        "member_1/embedding.weight is missing",
        "bank_0/available must be torch.int64, found torch.float64",
        "bank_1/keys must have shape",
        "stranger is not expected",
    ):
        assert part in str(refused.value)


def test_a_configuration_larger_than_its_state_is_refused_before_it_is_built() -> None:
    ensemble = untrained()
    for change in ({"d_hidden": 10**9}, {"lstm_layers": 10**9}, {"n_assets": 10**12}):
        config = dataclasses.replace(ensemble.config, **change)
        with pytest.raises(CheckpointError, match=r"at least the \d+ numbers that its config"):
            Ensemble.from_state(config, ensemble.state_dict())
    with pytest.raises(ConfigError, match="configuration d_hidden must be"):
        XTrendConfig.from_dict({**ensemble.config.to_dict(), "d_hidden": "8"})


def test_an_asset_mapped_to_unknown_is_not_any_asset_of_the_training() -> None:
    ensemble = untrained()
    at = np.array([70, 150])
    default = ensemble.predict(ROWS, at).z
    same = ensemble.predict(ROWS, at, entity=np.array([1, 2, 3])).z
    unknown = ensemble.predict(ROWS, at, entity=np.array([0, 0, 0])).z
    np.testing.assert_array_equal(default, same)
    assert (unknown != default).all()
    with pytest.raises(ModelError, match=r"index in \[0, 3\].*map assets the model does not"):
        ensemble.predict(ROWS, at, entity=np.array([1, 2, 4]))


def test_rows_with_other_features_than_the_models_are_refused() -> None:
    with pytest.raises(ModelError, match="the 6 features the model was made for, found 4"):
        untrained().predict(planted_rows(n_features=4), np.array([0]))


@pytest.mark.parametrize("changes", [{}, {"vsn": "paper", "share_vsn": False}])
def test_integrated_gradients_add_up_to_the_change_of_the_position(changes: dict) -> None:
    ensemble = untrained(**changes)
    at = np.array([5, 80, 150, 220])
    parts = ensemble.importance(ROWS, at, n_steps=16)
    zeros = ROWS.with_features(np.zeros_like(ROWS.features), ROWS.feature_names)
    moved = ensemble.predict(ROWS, at).z - ensemble.predict(zeros, at).z
    np.testing.assert_allclose(parts.sum(axis=1), moved, atol=2e-4)
    assert np.abs(moved).max() > 1e-3


def test_static_weights_need_no_rows_and_others_say_that_they_do() -> None:
    weights = untrained().vsn_weights()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    assert weights.shape == (2, 6)
    dependent = untrained(vsn="paper")
    with pytest.raises(ModelError, match="weights of the paper form must be asked for with rows"):
        dependent.vsn_weights()
    by_row = dependent.vsn_weights(ROWS, np.array([3, 100]))
    assert by_row.shape == (2, 2, 6)
    np.testing.assert_allclose(by_row.sum(axis=2), 1.0, rtol=1e-5)


def test_the_mixture_of_gaussian_members_is_wider_than_their_mean_width() -> None:
    ensemble = untrained(loss_mode="joint_mle")
    at = np.array([100])
    both = ensemble.predict(ROWS, at)
    alone = [
        Ensemble(ensemble.config, [m], [b]).predict(ROWS, at)
        for m, b in zip(ensemble.members, ensemble.banks, strict=True)
    ]
    assert both.sigma is not None
    mus = np.array([o.mu[0] for o in alone if o.mu is not None])
    sigmas = np.array([o.sigma[0] for o in alone if o.sigma is not None])
    # Var = E[σ²] + Var[μ] of an equal mixture
    assert both.sigma[0] == pytest.approx(np.sqrt((sigmas**2).mean() + mus.var()), rel=1e-6)
    assert np.isnan(alone[0].disagreement).all()
    assert both.disagreement[0] == pytest.approx(np.std(both.member_z[:, 0], ddof=1))


def test_the_bank_says_from_when_it_may_be_used() -> None:
    ensemble = untrained()
    available = ensemble.context_available
    assert available is not None
    assert available < ROWS.dates[50].to_datetime64()
    assert untrained(context_mode="none").context_available is None


@pytest.mark.parametrize(
    "changes",
    [
        *(form for form in FORMS if form.get("context_mode") != "none"),
        {"vsn": "paper", "target_embedding": False},
        {"vsn": "tft", "share_vsn": False, "target_embedding": False},
    ],
)
def test_the_stored_context_bank_equals_encoding_the_same_contexts_anew(changes: dict) -> None:
    ensemble = untrained(n_members=1, **changes)
    member, config = ensemble.members[0], ensemble.config
    tensors = RowTensors.of(ROWS, config)
    contexts = sample_contexts(
        ROWS, config.n_context, config.ctx_len, config.context_mode, np.random.default_rng(0),
        before_date_index=50,
    )  # fmt: skip
    bank = make_bank(member, tensors, contexts, ROWS)
    stored = Ensemble.from_state(config, Ensemble(config, [member], [bank]).state_dict())
    at = np.array([5, 75])  # the first window starts with padding
    index = window_index(ROWS, at, config.seq_len)
    choice = np.arange(config.n_context)[None].repeat(2, 0)
    with torch.no_grad():
        anew = member.eval()(tensors.batch(index, contexts, choice)).z
        from_bank = member(tensors.batch(index), stored.banks[0]).z
    torch.testing.assert_close(anew, from_bank, atol=1e-6, rtol=0)
    np.testing.assert_allclose(stored.predict(ROWS, at).member_z[0], anew[:, -1], atol=1e-6)
