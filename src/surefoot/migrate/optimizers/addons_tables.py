"""Those of TensorFlow Addons' optimizers that left rows of an embedding alone, on every backend.

See `surefoot.migrate.optimizers.table_optimizers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import surefoot
from surefoot.migrate.optimizers.table_optimizers import TouchedRowsOfTable, register


class TouchedRowsAndMoments(TouchedRowsOfTable):
    """Mixin: neither the moments of other rows change."""

    def _moved_states(self, variable: Any) -> Iterator[tuple[str, Any]]:
        yield from super()._moved_states(variable)
        for name in self.moment_names:  # type: ignore[attr-defined]
            slot = self.get_slot(variable, name)  # type: ignore[attr-defined]
            if len(slot.shape):  # NovoGrad has one number for the whole table
                yield name, slot


@register
class TableSGDW(TouchedRowsAndMoments, surefoot.SGDW):
    """`surefoot.SGDW` that updates only rows with a gradient, on every backend."""


@register
class TableLazyAdam(TouchedRowsAndMoments, surefoot.LazyAdam):
    """`surefoot.LazyAdam` that updates only rows with a gradient, on every backend."""


@register
class TableNovoGrad(TouchedRowsAndMoments, surefoot.NovoGrad):
    """`surefoot.NovoGrad` that updates only rows with a gradient, on every backend."""


@register
class TableYogi(TouchedRowsOfTable, surefoot.Yogi):
    """`surefoot.Yogi` that updates only rows with a gradient, on every backend."""


@register
class TableAdaBelief(TouchedRowsOfTable, surefoot.AdaBelief):
    """`surefoot.AdaBelief` that updates only rows with a gradient, on every backend."""

    def _moved_states(self, variable: Any) -> Iterator[tuple[str, Any]]:
        yield from super()._moved_states(variable)
        for name in self.moment_names[1:]:
            yield name, self.get_slot(variable, name)

    def _at_rest(self, name: str, variable: Any, old: Any, new: Any) -> Any:
        # A dense gradient of zero has a distance from the first moment; no gradient has none.
        if name == "v":
            return old * (1.0 - self._number("one_minus_beta_2", old))
        return super()._at_rest(name, variable, old, new)


@register
class TableAdamW(TouchedRowsOfTable, surefoot.AdamW):
    """`surefoot.AdamW` that decays only rows with a gradient, on every backend."""

    def _at_rest(self, name: str, variable: Any, old: Any, new: Any) -> Any:
        decays = self._decays(variable)
        return new + old * self._number("weight_decay", old) if decays else new


ADDONS_TABLES: dict[type, type] = {
    surefoot.SGDW: TableSGDW,
    surefoot.LazyAdam: TableLazyAdam,
    surefoot.NovoGrad: TableNovoGrad,
    surefoot.Yogi: TableYogi,
    surefoot.AdaBelief: TableAdaBelief,
    surefoot.AdamW: TableAdamW,
}
"""By the class that a model without embeddings gets. LAMB takes sparse gradients for dense ones."""
