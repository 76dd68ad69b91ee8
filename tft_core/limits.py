"""The limits that settings must keep, checked and told alike by every configuration.

``section`` is the one of ``tft.toml`` that a person has to correct. What one configuration alone
asks for stands in its own ``__post_init__``.
"""

from collections.abc import Sequence

from tft_core.errors import ConfigError


def require_at_least(config: object, section: str, **least: int) -> None:
    """Each named field is at least its value; ``None``, which means "not set", passes.

    Raises:
        ConfigError: One is less.
    """
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and value < low:
            raise ConfigError(f"{section}.{name} must be at least {low}, found {value}")


def require_positive(config: object, section: str, *names: str) -> None:
    """Each named field is above 0; ``None``, which means "not set", passes.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0.0:
            raise ConfigError(f"{section}.{name} must be positive, found {value:g}")


def require_not_negative(config: object, section: str, *names: str) -> None:
    """Each named field is 0 or more.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        value = getattr(config, name)
        if not value >= 0.0:
            raise ConfigError(f"{section}.{name} must not be negative, found {value:g}")


def require_share(config: object, section: str, *names: str) -> None:
    """Each named field lies between 0 and 1, both included.

    Raises:
        ConfigError: One does not.
    """
    for name in names:
        value = getattr(config, name)
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{section}.{name} must lie in [0, 1], found {value:g}")


def require_one_of(config: object, section: str, **options: Sequence[str]) -> None:
    """Each named field has one of its values.

    Raises:
        ConfigError: One has another.
    """
    for name, allowed in options.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ConfigError(
                f"{section}.{name} must be one of {', '.join(allowed)}, found {value!r}"
            )
